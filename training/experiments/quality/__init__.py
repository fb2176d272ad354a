"""Compare versions by the quality of their samples, and train the classifier for that."""
