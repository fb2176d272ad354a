"""The input and the rows of every part. Standard library alone: no part needs another's packages."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Row = dict[str, str | int | float]
"""One line of a part's table: values by name, with their units in the names."""
DeviceName = Literal["cpu", "cuda"]


class CheckFailed(Exception):
    """A measurement is not as it ought to be; the rows so far stand."""


@dataclass(frozen=True, slots=True)
class Check:
    """The device and the models to check, and the time for each measurement."""

    device: DeviceName
    models: Path
    """A folder of published models."""
    seconds: float
    """The time for one load, one loop or one kind of training step."""
    folder: Path
    """An empty folder for what a part writes."""
