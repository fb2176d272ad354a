"""The Open Inference Protocol, version 2: one data plane, over REST and gRPC."""
