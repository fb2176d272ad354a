"""Experiments on top of the product: GAN methods, theory, anomalies, sample quality."""
