"""The result of a finished run: one JSON file with its figures, its picture and how it was trained.

Shapes: R x R cells over the square that pictures show.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from training.data.dataset import FloatArray
from training.experiments.figure.methods import METHODS
from training.experiments.results import ResultError, read_results, write_results

CELLS = 120
"""R."""
TARGET = "target"
"""The name, in place of a method's, of the mixture's own points."""
CODE = "training.loop"
"""The loop that trains new results."""
HALF_WIDTHS = {"ring": 1.3, "grid": 5.0}
"""Half the side of the square around 0 that pictures of a mixture show."""
EARLIER_CODE = "the experiment's earlier loop (commit 2820c23)"
"""The loop that trained results whose files do not name one."""


@dataclass(frozen=True, order=True)
class MethodRun:
    """One training: a method on a mixture from a seed."""

    mixture: str
    method: str
    seed: int

    def path(self, folder: Path) -> Path:
        """Return its file in the folder of results."""
        return folder / f"{self.mixture}-{self.method}-{self.seed}.json"


@dataclass(frozen=True)
class MethodResult:
    """The result of a finished run."""

    run: MethodRun
    figures: Mapping[str, float]
    """The fields of `training.metrics.modes.ModeReport`; NaN where there is nothing to measure."""
    histogram: npt.NDArray[np.int64]
    """Counts of points (R, R), the second coordinate rising along rows."""
    histogram_rows: int
    """Points drawn for it, some of which may lie outside."""
    steps: int
    """Training steps, each with one update of the generator."""
    seconds: float
    """CPU seconds allowed for training."""
    options: Mapping[str, Any]
    """The recipe; empty for the target."""
    versions: Mapping[str, str]
    code: str = CODE

    def write(self, folder: Path) -> None:
        """Write the file, whole or not at all."""
        cells = np.flatnonzero(self.histogram)
        written = {
            **asdict(self.run),
            "code": self.code,
            "figures": {key: None if math.isnan(value) else value for key, value in self.figures.items()},
            "steps": self.steps,
            "seconds": self.seconds,
            "options": self.options,
            "versions": self.versions,
            "histogram_rows": self.histogram_rows,
            "histogram_gaps": np.diff(cells, prepend=0).tolist(),  # half as long as the places themselves
            "histogram_counts": self.histogram.flat[cells].tolist(),
        }
        write_results(self.run.path(folder), written)


def read_folder(folder: Path) -> list[MethodResult]:
    """Read all results in the folder, in the order of their runs.

    Raises:
        ResultError: A file is none of them, or they were trained by different code.
    """
    found = sorted((read_results(path, _parsed) for path in folder.glob("*.json")), key=lambda each: each.run)
    if len(codes := {each.code for each in found if each.run.method != TARGET}) > 1:
        raise ResultError(f"{folder} mixes results of {' and '.join(sorted(codes))}; keep those of one")
    return found


def missing(runs: Iterable[MethodRun], folder: Path, seconds: float) -> list[MethodRun]:
    """Return the runs that have no result in the folder yet; those of earlier code stand as they are.

    Raises:
        ResultError: A result has another recipe or time, or new ones would be mixed with those of earlier
            code.
    """
    runs, found = list(runs), {result.run: result for result in read_folder(folder)}
    left = [run for run in runs if run not in found]
    earlier = any(result.code != CODE for run, result in found.items() if run.method != TARGET)
    if earlier and any(run.method != TARGET for run in left):
        raise ResultError(
            f"{folder} holds results of {EARLIER_CODE}, which results of {CODE} must not be mixed with; "
            "choose another --folder"
        )
    for run in runs:
        if run.method == TARGET or run in left:
            continue
        result, recipe = found[run], METHODS[run.method].recipe(run.mixture, run.seed)
        wanted = result.options if earlier else json.loads(recipe.model_dump_json())
        if (result.options, result.seconds) != (wanted, seconds):
            raise ResultError(
                f"{run.path(folder)} was trained for {result.seconds:g} CPU seconds with "
                f"{dict(result.options)}; wanted {seconds:g} with {wanted}: delete it, or choose another "
                "--folder or --seconds"
            )
    return left


def histogram_of(points: FloatArray, mixture: str) -> npt.NDArray[np.int64]:
    """Count points (N, 2) in the cells (R, R) of the mixture's square."""
    square = [(-HALF_WIDTHS[mixture], HALF_WIDTHS[mixture])] * 2
    counts, _, _ = np.histogram2d(points[:, 1], points[:, 0], bins=CELLS, range=square)
    return counts.astype(np.int64)


def _parsed(written: Any) -> MethodResult:
    histogram = np.zeros((CELLS, CELLS), np.int64)
    histogram.flat[np.cumsum(written["histogram_gaps"])] = written["histogram_counts"]
    return MethodResult(
        run=MethodRun(written["mixture"], written["method"], written["seed"]),
        figures={key: math.nan if value is None else value for key, value in written["figures"].items()},
        histogram=histogram,
        code=written.get("code", EARLIER_CODE),
        **{key: written[key] for key in ("histogram_rows", "steps", "seconds", "options", "versions")},
    )
