"""The picture: a row for each mixture, and a column for the target and for each method."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from training.data.points import MODES
from training.experiments.figure.methods import METHODS
from training.experiments.figure.results import TARGET, MethodResult
from training.experiments.figure.table import of
from training.experiments.results import mean_of

_PANEL_INCHES = 1.2
_PIXELS_PER_INCH = 150
_COLOURS = "magma"
_INK = "#1f1f24"
_GREY = "#5b5b66"


def draw(results: Sequence[MethodResult], path: Path) -> None:
    """Write the picture as PNG: the density of each column's first seed, and means over all its seeds."""
    rows = [name for name in MODES if any(result.run.mixture == name for result in results)]
    columns = [name for name in (TARGET, *METHODS) if any(result.run.method == name for result in results)]
    size = (_PANEL_INCHES * len(columns), (_PANEL_INCHES + 0.28) * len(rows))
    figure = Figure(figsize=size, facecolor="white")
    panels = figure.subplots(len(rows), len(columns), squeeze=False)
    for row, mixture in enumerate(rows):
        scale = of(results, mixture, TARGET) or [each for each in results if each.run.mixture == mixture]
        brightest = np.log1p(max(result.histogram.max() for result in scale))
        for column, method in enumerate(columns):
            found = of(results, mixture, method)
            _panel(panels[row, column], found, float(brightest))
            if row == 0:
                title = "Target" if method == TARGET else METHODS[method].title
                panels[row, column].set_title(title, fontsize=8.5, color=_INK, pad=4)
    figure.subplots_adjust(left=0.004, right=0.996, top=0.93, bottom=0.065, wspace=0.04, hspace=0.19)
    path.parent.mkdir(parents=True, exist_ok=True)
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=_PIXELS_PER_INCH)
    with Image.open(file) as picture:  # 256 colours take a third of the bytes
        picture.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)


def _panel(axes: Axes, found: Sequence[MethodResult], brightest: float) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    axes.set_aspect("equal")
    if not found:
        axes.set_xlabel("not trained", fontsize=8.5, color=_GREY, labelpad=4)
        return
    # Logarithms show the few samples between the modes, which matter most.
    density = np.log1p(found[0].histogram)
    axes.imshow(density, origin="lower", cmap=_COLOURS, vmin=0, vmax=brightest, interpolation="antialiased")
    modes = mean_of(result.figures["modes_captured"] for result in found).value
    share = mean_of(result.figures["high_quality_share"] for result in found).value
    label = f"{modes:.1f}/{found[0].figures['modes']:.0f} · {100 * share:.1f} %"
    axes.set_xlabel(label, fontsize=8.5, color=_GREY, labelpad=4)
