"""Bulk work as tests do it: in this process, or by the command in a process of its own."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow
from pyarrow import dataset

from pushforward.bulk.plan import Shard
from pushforward.bulk.run import Report, Request, planned, run
from tests.conftest import REPOSITORY

COMMAND = [sys.executable, "-m", "pushforward", "bulk"]
ENVIRONMENT = os.environ | {"PYTHONPATH": str(REPOSITORY)}
LONGEST_SECONDS = 90.0


def work(operation: Any, models: Path, name: str, out: Path | str, **options: Any) -> Report:
    """Does all of the work, or one shard of it, in this process unless more are named."""
    shard, processes = options.pop("shard", Shard()), options.pop("processes", 1)
    request = Request(operation, models, name, str(out), **options)
    return run(planned(request), shard, processes)


def command(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs the command to its end."""
    return subprocess.run(
        [*COMMAND, *map(str, arguments)],
        env=ENVIRONMENT | environment,
        capture_output=True,
        text=True,
        timeout=LONGEST_SECONDS,
        check=False,
    )


def started(*arguments: object, **environment: str) -> subprocess.Popen[str]:
    """Starts the command."""
    return subprocess.Popen(
        [*COMMAND, *map(str, arguments)],
        env=ENVIRONMENT | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def children(process: int) -> list[int]:
    """The process ids of the children of a process; none if it has ended."""
    try:
        return [int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()]
    except OSError:
        return []


def descendants(process: int) -> list[int]:
    """The process ids of the children of a process, of their children, and so on."""
    return [each for child in children(process) for each in (child, *descendants(child))]


def parts(out: Path) -> list[Path]:
    """The finished parts."""
    return sorted(out.glob("part-*.parquet"))


def hashes(out: Path) -> dict[str, str]:
    """The hash of every file of an output by its name; fails if anything was left aside."""
    files = [path for path in sorted(out.rglob("*")) if path.is_file()]
    assert not [path for path in files if path.name.endswith(".partial")]
    return {str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def table(out: Path) -> pyarrow.Table:
    """All rows of an output, in their order."""
    return dataset.dataset(out, format="parquet").to_table().sort_by("row")


def array(out: Path, column: str, *shape: int) -> Any:
    """A column of lists as an array (B, *shape)."""
    flat = table(out)[column].combine_chunks().flatten()
    return flat.to_numpy().reshape(-1, *shape)
