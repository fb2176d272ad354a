"""Training steps of fashion-vae by the loop that trains it, in float32 and under autocast to bfloat16.

The items are noise in 256 levels of grey, which cost what pictures cost; the first bound on the
device and that on the CPU are of the same weights and the same noise.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Final

import numpy as np
import torch

from training.data.dataset import SPLITS, Dataset
from training.loop.distributed import ProcessGroup
from training.loop.loop import train
from training.loop.run_log import METRICS
from training.recipe import Recipe, read_recipe

from .check import Check, CheckFailed, Row
from .preparation import REPOSITORY

_RECIPE: Final = REPOSITORY / "training" / "recipes" / "fashion-vae.toml"
_ITEMS: Final = 1024
_FEWEST_STEPS: Final = 5
_MOST_OFF: Final = 1e-3
"""The largest relative difference of the first bounds in float32, which are sums over 784 pixels."""


class _Enough(Exception):
    """Enough steps were timed."""


def rows(check: Check) -> Iterator[Row]:
    """A row for each precision.

    Raises:
        CheckFailed: the device is not there, or the first bound on it is not that of the CPU.
    """
    if check.device == "cuda" and not torch.cuda.is_available():
        raise CheckFailed(f"torch {torch.__version__} finds no CUDA device")
    recipe = read_recipe(_RECIPE, ["loop.log_every=1"])
    dataset = _noise()
    first_on_cpu = _stepped(recipe, dataset, check.folder / "on-cpu", torch.device("cpu"), None, 0.0)["elbo"]
    device = torch.device(check.device)
    for dtype in (torch.float32, torch.bfloat16):
        name = str(dtype).removeprefix("torch.")
        found = _stepped(recipe, dataset, check.folder / name, device, dtype, check.seconds)
        gap = abs(found["elbo"] - first_on_cpu) / abs(first_on_cpu)
        yield {
            "precision": name,
            "steps": found["steps"],
            "milliseconds a step": found["seconds"] * 1e3,
            "items a second": recipe.loop.batch_rows / found["seconds"],
            "first ELBO, nats": found["elbo"],
            "off the CPU's in float32 by": gap,
            **({} if check.device == "cpu" else {"peak device memory, MB": found["megabytes"]}),
        }
        if dtype == torch.float32 and not gap <= _MOST_OFF:
            raise CheckFailed(f"the first ELBO is {found['loss']}, on the CPU it is {first_on_cpu}")


def _stepped(
    recipe: Recipe,
    dataset: Dataset,
    folder: Path,
    device: torch.device,
    dtype: torch.dtype | None,
    seconds: float,
) -> dict[str, float]:
    """Trains for so many seconds after the first steps; the median step, and the bound of the first."""
    ends: list[float] = []

    def on_progress(steps: int, _: str) -> None:
        ends.append(time.perf_counter())
        if steps >= _FEWEST_STEPS and ends[-1] - ends[_FEWEST_STEPS // 2] >= seconds:
            raise _Enough

    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    lowered = dtype is not None and dtype != torch.float32
    with torch.autocast(device.type, dtype) if lowered else nullcontext(), suppress(_Enough):
        train(recipe, dataset, folder, on_progress=on_progress, group=ProcessGroup(device=device))
    lines = (folder / METRICS).read_text(encoding="utf-8").splitlines()
    return {
        "elbo": float(json.loads(lines[0])["elbo"]),
        "steps": len(ends),
        "seconds": float(np.median(np.diff(ends)[_FEWEST_STEPS // 2 :])),
        "megabytes": torch.cuda.max_memory_allocated() / 1e6 if device.type == "cuda" else 0.0,
    }


def _noise() -> Dataset:
    levels = np.random.default_rng(0).integers(0, 256, (_ITEMS, 1, 28, 28))
    items = (levels / np.float32(255)).astype(np.float32)
    labels = np.zeros(_ITEMS, np.int64)
    return Dataset("noise", "", (1, 28, 28), (), dict.fromkeys(SPLITS, items), dict.fromkeys(SPLITS, labels))
