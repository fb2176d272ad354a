"""Quality and diversity of what a generator draws, measured against data by rules the field shares."""

from training.metrics.measure import FLOOR, measure_quality

__all__ = ["FLOOR", "measure_quality"]
