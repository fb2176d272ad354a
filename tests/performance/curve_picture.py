"""The scaling curve as one picture."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .curve import Axis, Curve
from .workloads import NAIVE, SERVICE


@dataclass(frozen=True, slots=True)
class _Line:
    """One value of one target."""

    label: str
    target: str
    value: str
    colour: str


_BLUE, _ORANGE, _GREY = "#4285c4", "#e07b39", "#5b5b66"
_THROUGHPUT: Final = (
    _Line("ONNX Runtime alone", SERVICE, "raw_samples_per_second", _GREY),
    _Line("service", SERVICE, "samples_per_second", _BLUE),
    _Line("naive server", NAIVE, "samples_per_second", _ORANGE),
)
_LATENCY: Final = (
    _Line("service, p99", SERVICE, "p99_milliseconds", _BLUE),
    _Line("service, p50", SERVICE, "p50_milliseconds", _GREY),
)
_TITLES: Final[dict[Axis, str]] = {
    "connections": "connections",
    "max_batch_rows": "--max-batch-rows, at 32 connections",
    "parameters": "millions of parameters, at 32 connections",
}
_STYLE: Any = {  # a type that names each key in some versions of matplotlib, and none in others
    "font.size": 9,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.2,
}
_INCHES: Final = (11.0, 5.6)
_PIXELS_PER_INCH: Final = 150


def draw(curve: Curve, path: Path) -> None:
    """Writes a PNG: throughput above, latency below; medians, and bands from the least to the greatest."""
    with rc_context(_STYLE):
        figure = Figure(figsize=_INCHES, layout="constrained", facecolor="white")
        panels = figure.subplots(2, len(_TITLES), sharex="col")
        for column, (axis, title) in enumerate(_TITLES.items()):
            throughput, latency = panels[:, column]
            for line in _THROUGHPUT:
                _plot(throughput, curve, axis, line)
            for line in _LATENCY:
                _plot(latency, curve, axis, line)
            _scale(throughput, latency, curve, axis)
            latency.set_xlabel(title)
        for axes, label in zip(panels[:, 0], ("samples/s", "ms"), strict=True):
            axes.set_ylabel(label)
            axes.legend()
        where = curve.machine
        title = f"{curve.processes} processes on {where['granted_cores']} cores, {where['cpu']}"
        figure.suptitle(f"One sample a request, {title}", fontsize=9)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, format="png", dpi=_PIXELS_PER_INCH)


def _plot(axes: Axes, curve: Curve, axis: Axis, line: _Line) -> None:
    found: dict[float, list[float]] = {}
    for point in curve.points:
        if (point.axis, point.target) == (axis, line.target):
            found.setdefault(point.at, []).append(point.values[line.value])
    if found:
        places = sorted(found)
        middles = [median(found[at]) for at in places]
        lowest, highest = [min(found[at]) for at in places], [max(found[at]) for at in places]
        axes.plot(places, middles, color=line.colour, label=line.label, marker="o", markersize=3)
        axes.fill_between(places, lowest, highest, color=line.colour, alpha=0.15, linewidth=0)


def _scale(throughput: Axes, latency: Axes, curve: Curve, axis: Axis) -> None:
    """Set logarithmic scales, except for the throughput of models of one size."""
    places = sorted({point.at for point in curve.points if point.axis == axis})
    names = [f"{at / 1e6:.1f}" if axis == "parameters" else f"{at:g}" for at in places]
    latency.set_xscale("log", base=2)
    latency.set_xticks(places, names)
    latency.set_yscale("log")
    if axis == "parameters":
        throughput.set_yscale("log")
    else:
        throughput.set_ylim(bottom=0)
