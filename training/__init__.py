"""Training of VAEs and GANs, and their publication as ONNX versions; serving is the package `service`."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # as in `service`: before ONNX Runtime is imported

_OWN = ("pushforward", "service", "training")


def main(
    program: str = "pushforward-train", arguments: Sequence[str] | None = None, *, mistake_status: int = 1
) -> None:
    """Run a command of training; if a library of the extra `train` is missing, say how to install it."""
    try:
        from training.__main__ import main as run

        run(program, arguments, mistake_status=mistake_status)
    except ModuleNotFoundError as error:
        library = (error.name or "").partition(".")[0]
        if library in _OWN:
            raise
        sys.exit(f"{program}: {library} is not installed; training needs: pip install 'pushforward[train]'")
