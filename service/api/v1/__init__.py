"""The operations under /v1: typed requests in, JSON, npy or pictures out."""
