"""The process of one part: it writes each row as soon as it is there, as a line of JSON.

    python -m tests.performance.gpu_check.part NAME ROWS --device cpu --models models --seconds 3 --folder F

A line is `{"row": {...}}`, or in the end `{"reason": "..."}` if the part failed.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import traceback
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from types import FrameType

from .parts import PARTS


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the part; 0, or 1 if it failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=[part.name for part in PARTS])
    parser.add_argument("rows", type=Path)
    parser.add_argument("--device", choices=["cpu", "cuda"], required=True)
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    given = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, _stop)  # so that a server is ended on the way out
    with given.rows.open("w", encoding="utf-8") as file:
        try:
            for row in _rows(given):
                file.write(json.dumps({"row": row}) + "\n")
                file.flush()
        except Exception as error:  # whatever a part stumbles over is told, and the next part runs
            traceback.print_exc()
            file.write(json.dumps({"reason": _reason(error)}) + "\n")
            return 1
    return 0


def _rows(given: argparse.Namespace) -> Iterator[dict[str, str | int | float]]:
    from .check import Check  # here, so that a package it lacks is told as the part's failure

    module = next(part.module for part in PARTS if part.name == given.name)
    check = Check(given.device, given.models, given.seconds, given.folder)
    rows: Iterator[dict[str, str | int | float]] = import_module(f".{module}", __package__).rows(check)
    return rows


def _reason(error: Exception) -> str:
    from_check = type(error).__name__ in ("BenchFailed", "CheckFailed")
    notes = "".join(f"\n{note}" for note in getattr(error, "__notes__", ()))
    return (str(error) if from_check else f"{type(error).__name__}: {error}") + notes


def _stop(_number: int, _frame: FrameType | None) -> None:
    raise SystemExit("out of time")


if __name__ == "__main__":
    sys.exit(main())
