"""Helpers of the theory's plots."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from training.experiments.theory.densities import GRID

if TYPE_CHECKING:
    from matplotlib.axis import Axis

TALL = (5.4, 3.2)
"""Size in inches of a plot with a legend of several lines."""


def places_between(low: float, high: float) -> Tensor:
    """Return the indices of every tenth point of `GRID` from `low` to `high`, enough for any plot."""
    every_tenth = torch.arange(0, len(GRID), 10)
    return every_tenth[(GRID[every_tenth] >= low) & (GRID[every_tenth] <= high)]


def label_decades(*axes: Axis, marks: tuple[float, ...] = (1.0,)) -> None:
    """Label logarithmic axes with plain numbers at `marks` times the powers of ten."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    for axis in axes:
        axis.set_major_locator(LogLocator(subs=marks, numticks=20))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_formatter(NullFormatter())
