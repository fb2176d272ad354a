"""The log of a run: means of its terms as JSON lines, and grids of samples."""

from __future__ import annotations

import contextlib
import json
import time
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from service.format.manifest import is_picture
from training.data.png import write_grid

METRICS, SAMPLES = "metrics.jsonl", "samples"
"""Names of the log and of the folder of sample grids inside a run's folder."""
VALIDATION = "validation_"
"""Prefix of the names of validation figures in the log."""


class RunLog:
    """Writes `metrics.jsonl` and `samples/` in a run's folder. Call `begin` before the first step."""

    def __init__(self, folder: Path) -> None:
        self._metrics, self._samples = folder / METRICS, folder / SAMPLES
        self._values: defaultdict[str, list[float]] = defaultdict(list)
        self._items, self._since = 0, time.monotonic()
        self.lines: list[Mapping[str, float]] = []
        """The lines of the log."""
        self.latest = ""
        """The last written means, as text for a person."""
        self.validated = ""
        """The last written figures of held-out items, as text for a person."""

    def begin(self, step: int) -> None:
        """Make the folder, and remove lines that a run resumed at `step` will write again."""
        self._samples.mkdir(parents=True, exist_ok=True)
        self.lines = [line for line in read_lines(self._metrics.parent) if line["step"] <= step]
        partial = self._metrics.with_suffix(".partial")
        partial.write_text("".join(f"{json.dumps(line)}\n" for line in self.lines), encoding="utf-8")
        partial.replace(self._metrics)
        self._since = time.monotonic()

    def add(self, values: Mapping[str, float], items: int) -> None:
        """Add one step's values and its number of items."""
        for name, value in values.items():
            self._values[name].append(value)
        self._items += items

    def write_means(self, step: int, learning_rate: float) -> None:
        """Write the means since the last call, and the speed in items per second."""
        means = {name: sum(values) / len(values) for name, values in self._values.items()}
        speed = round(self._items / max(time.monotonic() - self._since, 1e-9), 1)
        self._write({"step": step, "learning_rate": learning_rate, "items_per_second": speed, **means})
        self.latest = _text({name: mean for name, mean in means.items() if "norm" not in name})
        self._values.clear()
        self._items, self._since = 0, time.monotonic()

    def write_validation(self, step: int, figures: Mapping[str, Tensor], samples: Tensor) -> None:
        """Write the means of per-item figures, and a grid of samples (N, *item) if they are pictures."""
        means = {name: values.mean().item() for name, values in figures.items()}
        self._write({"step": step, **{VALIDATION + name: mean for name, mean in means.items()}})
        self.validated = f"held-out items: {_text(means)}"
        if is_picture(samples.shape[1:]):
            write_grid(self._samples / f"step-{step:08d}.png", samples.numpy())

    def _write(self, line: Mapping[str, float]) -> None:
        self.lines.append(line)
        with self._metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def _text(figures: Mapping[str, float]) -> str:
    return "  ".join(f"{name} {value:.4g}" for name, value in figures.items())


def read_lines(folder: Path) -> list[Mapping[str, float]]:
    """Read the lines of a run's log; those that a crash left incomplete are left out."""
    path = folder / METRICS
    lines: list[Mapping[str, float]] = []
    for text in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        with contextlib.suppress(ValueError):
            lines.append(json.loads(text))
    return lines
