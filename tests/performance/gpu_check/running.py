"""Running a part in a process of its own, for no longer than it may take. Standard library alone."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from tests.performance.process_tree import tree

from .parts import Part

State = Literal["done", "failed", "out of time", "not run"]

_GRACE_SECONDS: Final = 5.0
_TAIL_LINES: Final = 40


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of a part, and the rows that it wrote before its end."""

    name: str
    what: str
    state: State
    budget_seconds: float
    seconds: float = 0.0
    reason: str = ""
    log: str = ""
    """The end of its log, unless it is done."""
    rows: Sequence[Mapping[str, Any]] = field(default_factory=tuple)


def run_part(
    part: Part, options: Sequence[str], seconds: float, folder: Path, environment: Mapping[str, str]
) -> Outcome:
    """Runs a part for at most `seconds`; its rows and its log go into `folder`."""
    rows, log = folder / f"{part.name}.jsonl", folder / f"{part.name}.log"
    scratch = folder / part.name
    scratch.mkdir()
    command = [sys.executable, "-m", f"{__package__}.part", part.name, str(rows), "--folder", str(scratch)]
    started_at = time.monotonic()
    with log.open("wb") as file:
        process = subprocess.Popen(
            [*command, *options], env=dict(environment), stdout=file, stderr=subprocess.STDOUT
        )
        try:
            status: int | None = process.wait(seconds)
        except subprocess.TimeoutExpired:
            status = None
        finally:
            _end(process)
    taken = time.monotonic() - started_at
    found, reason = _read(rows)
    state: State = "done" if status == 0 else "failed"
    if status is None:
        state, reason = (
            "out of time",
            f"it was stopped after {taken:.0f} s; what it had found by then is kept",
        )
    elif status:
        reason = reason or f"its process ended with status {status}"
    tail = "" if state == "done" else _tail(log)
    return Outcome(part.name, part.what, state, round(seconds, 1), round(taken, 1), reason, tail, found)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends a process and all that it started, servers too, by force if they do not end by themselves."""
    if process.poll() is not None:
        return
    family = tree(process.pid)
    process.terminate()
    try:
        process.wait(_GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        for member in family:
            with contextlib.suppress(ProcessLookupError):
                os.kill(member, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):  # a process may hang in a broken driver
            process.wait(_GRACE_SECONDS)


def _read(path: Path) -> tuple[list[dict[str, Any]], str]:
    """The rows of a part, and why it failed if it said so; the last line may be cut short."""
    rows, reason = [], ""
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        with contextlib.suppress(ValueError):
            said = json.loads(line)
            if "row" in said:
                rows.append(said["row"])
            else:
                reason = said["reason"]
    return rows, reason


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-_TAIL_LINES:])
