"""Compares versions by the quality of their samples; trains the classifier that the comparison uses."""
