"""What a finished run leaves: one JSON file with its figures, its picture and how it was trained.

Shapes: R x R cells over the square that pictures show.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from training.experiments.figure.mixtures import Mixture

CELLS = 120
"""R."""
TARGET = "target"
"""In place of a method's name, the mixture's own points."""


class FigureError(Exception):
    """Results do not belong together; the message says what to do."""


@dataclass(frozen=True, order=True)
class Run:
    """One training: which method, on which mixture, from which seed."""

    mixture: str
    method: str
    seed: int

    def path(self, folder: Path) -> Path:
        """Its file in the folder of results."""
        return folder / f"{self.mixture}-{self.method}-{self.seed}.json"


@dataclass(frozen=True)
class Result:
    """A finished run."""

    run: Run
    figures: Mapping[str, float]
    """The fields of `training.metrics.modes.ModeReport`; NaN where there is nothing to measure."""
    histogram: npt.NDArray[np.int64]
    """Counts of points (R, R), the second coordinate rising along rows."""
    histogram_rows: int
    """Points drawn for it, some of which may lie outside."""
    steps: int
    """Of the generator."""
    seconds: float
    """CPU seconds allowed for training."""
    options: Mapping[str, Any]
    versions: Mapping[str, str]

    def write(self, folder: Path) -> None:
        """Write the file, whole or not at all."""
        cells = np.flatnonzero(self.histogram)
        written = {
            **asdict(self.run),
            "figures": {key: None if math.isnan(value) else value for key, value in self.figures.items()},
            "steps": self.steps,
            "seconds": self.seconds,
            "options": self.options,
            "versions": self.versions,
            "histogram_rows": self.histogram_rows,
            "histogram_gaps": np.diff(cells, prepend=0).tolist(),  # half as long as the places themselves
            "histogram_counts": self.histogram.flat[cells].tolist(),
        }
        folder.mkdir(parents=True, exist_ok=True)
        path = self.run.path(folder)
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(written, separators=(",", ":")) + "\n", encoding="utf-8")
        partial.replace(path)


def read_result(path: Path) -> Result:
    """Read a file that `Result.write` wrote.

    Raises:
        FigureError: It is not one of these files.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        histogram = np.zeros((CELLS, CELLS), np.int64)
        histogram.flat[np.cumsum(found["histogram_gaps"])] = found["histogram_counts"]
        return Result(
            run=Run(found["mixture"], found["method"], found["seed"]),
            figures={key: math.nan if value is None else value for key, value in found["figures"].items()},
            histogram=histogram,
            histogram_rows=found["histogram_rows"],
            steps=found["steps"],
            seconds=found["seconds"],
            options=found["options"],
            versions=found["versions"],
        )
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise FigureError(f"{path} is no result of a run ({error!r}); delete it to train it again") from None


def read_results(folder: Path) -> list[Result]:
    """All results in the folder, in the order of their runs."""
    return sorted((read_result(path) for path in folder.glob("*.json")), key=lambda result: result.run)


def histogram_of(points: npt.NDArray[np.float64], mixture: Mixture) -> npt.NDArray[np.int64]:
    """Counts (R, R) of points (N, 2) in the mixture's square."""
    square = [(-mixture.reach, mixture.reach)] * 2
    counts, _, _ = np.histogram2d(points[:, 1], points[:, 0], bins=CELLS, range=square)
    return counts.astype(np.int64)
