"""The HTTP service: loads published versions and answers requests. Never imports training code."""

import os

# Since 1.29 ONNX Runtime sends its maker the names, sizes and hashes of models unless this is set before it
# is imported. The thread that it starts for this would also be missing in a forked replica.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
