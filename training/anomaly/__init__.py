"""Anomaly statistics: their definition, choice, calibration and AUROC."""
