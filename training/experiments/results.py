"""Results of experiments: JSON files that are written whole or not at all, and means over them."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from rich.console import Console
from typer import Typer

from training.data import DataError
from training.loop.loop import DivergenceError

Parsed = TypeVar("Parsed")


class ResultError(Exception):
    """Stored results cannot be used; the message says why and what to do."""


def write_results(path: Path, results: Any, indent: int | None = None) -> None:
    """Write results as JSON; a file that is there is replaced only by a whole one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    separators = (",", ":") if indent is None else None
    partial.write_text(json.dumps(results, indent=indent, separators=separators) + "\n", encoding="utf-8")
    partial.replace(path)


def read_results(path: Path, parse: Callable[[Any], Parsed]) -> Parsed:
    """Read a file that `write_results` wrote, and parse what it holds.

    Raises:
        ResultError: The file holds something else.
    """
    try:
        return parse(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise ResultError(f"{path} holds no results ({error!r}); move it away to train again") from error


def run(app: Typer, console: Console) -> None:
    """Run a command; an expected error becomes one line and exit status 1."""
    try:
        app()
    except (DataError, DivergenceError, ImportError, OSError, ResultError) as error:
        console.print("error:", style="bold red", end=" ")
        console.print(str(error), markup=False, highlight=False, soft_wrap=True)
        raise SystemExit(1) from None


class Mean(NamedTuple):
    """A mean over several trainings; NaN if there are no values."""

    value: float
    standard_error: float
    """NaN for fewer than two values."""

    def text(self, digits: int, factor: float = 1.0) -> str:
        """Format the mean times `factor`, such as `97.1 ± 0.2`."""
        if math.isnan(self.value):
            return "none"
        error = "" if math.isnan(self.standard_error) else f" ± {factor * self.standard_error:.{digits}f}"
        return f"{factor * self.value:.{digits}f}{error}"


def mean_of(values: Iterable[float]) -> Mean:
    """Return the mean of the values that are not NaN, and its standard error, s / sqrt(n) with n - 1 in s."""
    known = [value for value in values if not math.isnan(value)]
    mean = statistics.fmean(known) if known else math.nan
    return Mean(mean, statistics.stdev(known) / math.sqrt(len(known)) if len(known) > 1 else math.nan)
