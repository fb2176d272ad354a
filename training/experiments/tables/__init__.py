"""Measure the anomaly scores of drafted recipes on a folder of tables, beside other detectors."""
