"""Read the parts of a run's folder that a report shows."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from training.data import Dataset, Labels, Split, load_dataset
from training.loop.checkpoint import Checkpoint, has_checkpoint
from training.loop.noise import Noise
from training.loop.run_log import METRICS
from training.loop.runs import CHECKPOINTS, RECIPE, ModelTask, restore_published
from training.loop.vae import VaeTask
from training.models.vae import Vae, with_fixed_prior
from training.recipe import Recipe, parse_recipe


class ReportError(RuntimeError):
    """A folder is not a run, or a file in it cannot be read."""


@dataclass(frozen=True)
class Series:
    """The finite values of a logged quantity along a run."""

    steps: npt.NDArray[np.float64]
    """(N,), ascending."""
    values: npt.NDArray[np.float64]
    """(N,)."""


@dataclass(frozen=True)
class Trained:
    """A run's newest model, its averaged weights in evaluation mode, and the data it learned from."""

    recipe: Recipe
    dataset: Dataset
    task: ModelTask
    checkpoint: Checkpoint

    @property
    def steps(self) -> int:
        """Return the number of training steps."""
        return self.checkpoint.step

    @property
    def vae(self) -> Vae | None:
        """Return the model with its prior fixed if it is a VAE, else None."""
        return with_fixed_prior(self.task.model) if isinstance(self.task, VaeTask) else None

    def noise(self) -> Noise:
        """Return the noise of the run's validations, from its beginning."""
        return Noise(self.recipe.seed, Noise.VALIDATION, 0)

    def first(self, part: Split | Literal["outliers"], rows: int) -> tuple[Tensor, Labels]:
        """Return the first items of a part as the model sees them, (at most `rows`, *item), and their labels.

        Outliers are called all classes in turn; there are none if no class was kept out.
        """
        if part == "outliers":
            outliers = self.dataset.outliers
            items = torch.from_numpy(self.dataset.items["test"][:0] if outliers is None else outliers[:rows])
            return items, np.arange(len(items)) % max(1, len(self.dataset.class_names))
        items = torch.from_numpy(self.dataset.items[part][:rows])
        if part == "train" and self.recipe.data.binarise == "dynamic":
            items = (self.noise().uniform(*items.shape) < items).float()
        return items, self.dataset.labels[part][:rows]


def read_run_recipe(folder: Path) -> Recipe:
    """Read the recipe that a run was started with.

    Raises:
        ReportError: The folder is not a run.
        RecipeError: Its recipe is of another version of this program.
    """
    path = folder / RECIPE
    if not path.is_file():
        inside = sorted(str(found.parent) for found in folder.glob(f"*/{RECIPE}"))
        what = f"holds no {RECIPE}, so it is no run" if folder.is_dir() else "is no folder"
        hint = f"runs inside it: {', '.join(inside)}" if inside else "name a run's, e.g. runs/digits-vae"
        raise ReportError(f"{folder} {what}; {hint}")
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ReportError(f"{path} is not JSON: {error}; train anew") from error
    if not isinstance(table, dict):
        raise ReportError(f"{path} holds no recipe; train anew")
    return parse_recipe(table)


def read_metrics(folder: Path) -> Mapping[str, Series]:
    """Read the quantities in `metrics.jsonl`, by name; empty before the first line is written.

    Raises:
        ReportError: A line is not JSON; the last one, which may be incomplete, is ignored then.
    """
    path = folder / METRICS
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    points: dict[str, list[tuple[float, float]]] = {}
    for number, line in enumerate(lines, start=1):
        try:
            entry = json.loads(line)
        except ValueError as error:
            if number == len(lines):
                break
            raise ReportError(f"{path}, line {number} is not JSON: {error}; remove it") from error
        for name, value in entry.items():
            if name != "step" and np.isfinite(value):
                points.setdefault(name, []).append((entry["step"], value))
    return {name: Series(*np.array(pairs, np.float64).T) for name, pairs in points.items()}


def restore(recipe: Recipe, folder: Path) -> Trained | None:
    """Restore a run's newest checkpoint with its data; None if there is no checkpoint yet.

    Raises:
        CheckpointError: It cannot be read.
        DataError: The recipe's data cannot be loaded.
        SupportError: The data no longer fits the model's likelihood.
    """
    if not has_checkpoint(folder / CHECKPOINTS):
        return None
    dataset = load_dataset(recipe.data)
    task, checkpoint = restore_published(recipe, dataset, folder)
    return Trained(recipe, dataset, task, checkpoint)
