"""Measure anomaly scores: VAEs of one class each, and VAEs of benign tumours beside other detectors."""
