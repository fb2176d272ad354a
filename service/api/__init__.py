"""The API: HTTP and gRPC. Requests are parsed, operations called, and results encoded."""
