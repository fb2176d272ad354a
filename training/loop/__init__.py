"""The training loop, its runs, checkpoints and processes."""
