"""The operations under `/v1`: typed requests, and answers as JSON, npy or pictures."""
