"""The run as one picture: memory, file descriptors and answers by their status."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from matplotlib import rc_context
from matplotlib.figure import Figure

_STYLE: Any = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.2,
}
_BLUE, _ORANGE, _GREY = "#4285c4", "#e07b39", "#5b5b66"
_PIXELS_PER_INCH: Final = 150


def draw(result: dict[str, Any], path: Path) -> None:
    """Write a PNG of the JSON that a run has written."""
    with rc_context(_STYLE):
        figure = Figure(figsize=(11.0, 3.6), layout="constrained", facecolor="white")
        memory, files = figure.subplots(1, 2)
        minutes = [reading["seconds"] / 60 for reading in result["readings"]]
        warm_up = result["warm_up_seconds"] / 60
        memory.plot(
            minutes, [one["resident_megabytes"] for one in result["readings"]], color=_BLUE, linewidth=1
        )
        memory.set_title(
            f"resident memory: {result['slope_percent']:+.2f} ± {result['slope_error']:.2f} % in 10 minutes",
            fontsize=9,
        )
        memory.set_ylabel("10⁶ bytes")
        memory.set_ylim(bottom=0)
        files.plot(
            minutes,
            [one["file_descriptors"] for one in result["readings"]],
            color=_GREY,
            linewidth=0.6,
            label="under load",
        )
        quiet = result["quiet"]
        files.plot(
            [one["seconds"] / 60 for one in quiet],
            [one["file_descriptors"] for one in quiet],
            "o-",
            color=_ORANGE,
            markersize=3,
            label="while nothing is asked",
        )
        files.set_title("open file descriptors", fontsize=9)
        files.set_ylim(bottom=0)
        files.legend(frameon=False)
        for axes in (memory, files):
            axes.axvspan(0, warm_up, color=_GREY, alpha=0.08)
            axes.set_xlabel("minutes; the warm-up is grey")
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, format="png", dpi=_PIXELS_PER_INCH)
