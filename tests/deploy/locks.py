"""The packages that files of requirements pin."""

from __future__ import annotations

import re
from pathlib import Path

from tests.deploy.rendering import DEPLOY


def normalised(name: str) -> str:
    """A package's name as PEP 503 writes it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(file: Path) -> dict[str, str]:
    """The version of each package that a file pins, by its normalised name."""
    found = re.findall(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", file.read_text(), re.MULTILINE)
    return {normalised(name): version for name, version in found}


def lock(target: str) -> Path:
    """The lock file of a target of the Dockerfile."""
    return DEPLOY / f"requirements-{target}.txt"
