"""The operations, free of HTTP and gRPC: typed options and arrays in, arrays and fields out."""
