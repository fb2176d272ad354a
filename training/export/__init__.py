"""Publish checkpoints as versions: graphs, parity, calibration, model card."""
