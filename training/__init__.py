"""Training of VAEs and GANs, and their publication as ONNX versions; serving is the package `service`."""

import os

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # as in `service`: before ONNX Runtime is imported
