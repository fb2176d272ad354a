"""The Open Inference Protocol, version 2, over REST and gRPC: one data plane, two ways to speak of it."""
