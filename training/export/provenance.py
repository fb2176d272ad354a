"""The origin of stored files: the commit of this code and the versions of its libraries."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

_LIBRARIES = ("torch", "onnx", "onnxscript", "onnxruntime", "numpy")


def library_versions(libraries: Sequence[str] = _LIBRARIES) -> dict[str, str]:
    """Return the versions of Python and of the libraries that compute and export, by name."""
    versions = {name: str(import_module(name).__version__) for name in libraries}
    return {"python": platform.python_version(), **versions}


def commit() -> str:
    """Return the commit of the training code, with `-modified` if its files changed, or `unknown`."""
    here = Path(__file__).parents[1]
    try:
        # an installed package may lie in the repository of another project
        _git(here, "ls-files", "--error-unmatch", "--", "export/provenance.py")
        head = _git(here, "rev-parse", "HEAD").strip()
        changed = _git(here, "status", "--porcelain", "--", ".").strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{head}-modified" if changed else head


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(folder), *arguments], check=True, capture_output=True, text=True)
    return done.stdout
