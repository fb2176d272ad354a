"""Checkpoints become published versions: graphs, parity, model card."""
