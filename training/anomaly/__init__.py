"""Anomaly statistics: what they are, which is chosen, how they are calibrated and judged."""
