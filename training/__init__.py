"""Trains VAEs and GANs and publishes them as ONNX versions; serving is the package `service`."""
