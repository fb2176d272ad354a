"""Arrays to bytes and back: npy, nested lists, PNG and JPEG."""
