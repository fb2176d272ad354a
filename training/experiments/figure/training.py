"""One run: train a method for its CPU time, then measure samples of its generator.

The protocol is PacGAN's: 100 000 training points, 2500 measured ones. Source: Lin et al. 2018,
arXiv:1712.04086, section 4.1. Shapes: N points.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import platform
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from training.data import load_dataset
from training.data.dataset import FloatArray
from training.data.points import MODES
from training.experiments.figure.methods import METHODS
from training.experiments.figure.results import TARGET, MethodResult, MethodRun, histogram_of
from training.loop.checkpoint import AVERAGE, read_checkpoint
from training.loop.interrupt import INTERRUPTED
from training.loop.loop import train
from training.loop.runs import CHECKPOINTS, Stage
from training.metrics.modes import measure_modes
from training.models.gan import Gan

MEASURED_ROWS = 2_500
PICTURE_ROWS = 20_000


def perform(run: MethodRun, seconds: float) -> MethodResult:
    """Train for `seconds` CPU seconds of this process and measure; for the target, measure fresh points.

    Raises:
        SystemExit: SIGINT or SIGTERM came during training.
    """
    modes = MODES[run.mixture]()
    measured: FloatArray
    pictured: FloatArray
    if run.method == TARGET:
        measured, pictured = (
            modes.draw(np.random.default_rng((run.seed, 1)), rows)[0]
            for rows in (MEASURED_ROWS, PICTURE_ROWS)
        )
        options, steps, seconds = {}, 0, 0.0
    else:
        gan, steps = _train(run, seconds)
        random = torch.Generator().manual_seed(run.seed)
        with torch.no_grad():
            measured, pictured = (
                gan.decode(gan.draw(rows, random)).numpy() for rows in (MEASURED_ROWS, PICTURE_ROWS)
            )
        options = METHODS[run.method].recipe(run.mixture, run.seed).model_dump(mode="json")
    return MethodResult(
        run=run,
        figures=measure_modes(measured, modes.centres, modes.deviation)._asdict(),
        histogram=histogram_of(pictured, run.mixture),
        histogram_rows=PICTURE_ROWS,
        steps=steps,
        seconds=seconds,
        options=options,
        versions={"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__},
    )


def perform_all(
    runs: Sequence[MethodRun], folder: Path, seconds: float, jobs: int, advance: Callable[[int], None]
) -> None:
    """Perform the runs, `jobs` at a time on one core each, and write a file for each that ends.

    `advance` is called after each. An interrupt ends the others, which leave no files.
    """
    # Spawned, as torch may not be used in processes forked from one that has used it.
    with multiprocessing.get_context("spawn").Pool(min(jobs, len(runs)) or 1, _prepare) as pool:
        task = functools.partial(_perform_and_write, folder=folder, seconds=seconds)
        for _ in pool.imap_unordered(task, runs):
            advance(1)


def _prepare() -> None:
    os.setpgrp()  # a terminal's Ctrl-C goes to the parent alone, which ends this process
    torch.set_flush_denormal(True)  # tiny moments of gradients would slow Adam down


def _perform_and_write(run: MethodRun, folder: Path, seconds: float) -> None:
    perform(run, seconds).write(folder)


def _train(run: MethodRun, seconds: float) -> tuple[Gan, int]:
    """Return the GAN with averaged weights, and the number of steps that the time was enough for."""
    method = METHODS[run.method]
    recipe = method.recipe(run.mixture, run.seed)
    dataset = load_dataset(recipe.data)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(run.seed)
            task = method.make_task(recipe, dataset)
        stage = Stage(task, recipe.loop, folder, schedule_step=_cpu_clock(seconds, recipe.loop.steps))
        outcome = train(recipe, dataset, folder, stage=stage)
        if outcome.interrupted:
            raise SystemExit(INTERRUPTED)
        task.model.load_state_dict(read_checkpoint(folder / CHECKPOINTS).part(AVERAGE))
    return task.model, outcome.steps


def _cpu_clock(seconds: float, steps: int) -> Callable[[int], int]:
    """Return a function that maps the CPU time since the first step to a place in the schedules."""
    begin = 0.0

    def place(steps_done: int) -> int:
        nonlocal begin
        now = time.process_time()
        begin = now if steps_done == 0 else begin
        return int(steps * (now - begin) / seconds)

    return place
