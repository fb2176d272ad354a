"""Which runs are missing, and several processes that perform them."""

from __future__ import annotations

import functools
import json
import multiprocessing
import signal
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from training.experiments.figure.options import METHODS
from training.experiments.figure.results import TARGET, FigureError, Run, read_result
from training.experiments.figure.training import perform


def missing(runs: Iterable[Run], folder: Path, seconds: float) -> list[Run]:
    """The runs that have no result in the folder yet.

    Raises:
        FigureError: A result was trained with other options, or for another time.
    """
    return [run for run in runs if not _is_there(run, folder, seconds)]


def perform_all(
    runs: Sequence[Run], folder: Path, seconds: float, jobs: int, advance: Callable[[int], None]
) -> None:
    """Perform the runs, `jobs` at a time on a core each; every one that ends leaves its file.

    `advance` is told of each that ends. An interrupt ends the others without a trace.
    """
    # Spawned, as torch may not be used in processes forked from one that has used it.
    with multiprocessing.get_context("spawn").Pool(min(jobs, len(runs)) or 1, _prepare) as pool:
        task = functools.partial(_perform, folder=folder, seconds=seconds)
        for _ in pool.imap_unordered(task, runs):
            advance(1)


def _prepare() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent is interrupted too, and ends this process
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)  # moments of gradients that have all but vanished would slow Adam down


def _perform(run: Run, folder: Path, seconds: float) -> None:
    perform(run, seconds).write(folder)


def _is_there(run: Run, folder: Path, seconds: float) -> bool:
    path = run.path(folder)
    if not path.exists():
        return False
    if run.method == TARGET:
        return True
    found = read_result(path)
    # Through JSON, where tuples are lists.
    wanted = json.loads(json.dumps(asdict(METHODS[run.method].options_on(run.mixture))))
    if found.options != wanted or found.seconds != seconds:
        raise FigureError(
            f"{path} was trained for {found.seconds:g} CPU seconds with {dict(found.options)}; "
            f"wanted {seconds:g} with {wanted}: delete it, or choose another --folder or --seconds"
        )
    return True
