"""Objectives as pure functions of one item, in nats or logits."""
