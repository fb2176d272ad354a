"""What anomaly scores are worth: VAEs of one class each, and of benign tumours beside other detectors."""
