"""Arrays to bytes and back: npy, nested lists and tables; pictures in several formats."""
