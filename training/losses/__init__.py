"""Objectives as pure functions, one value per item, in nats or logits."""
