"""The batch of each step: training items in a random order, augmented and binarised."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from training.data import Dataset
from training.data.stored import is_mapped, release
from training.loop.augmentation import Augmentation
from training.loop.distributed import ProcessGroup, ProcessGroupError
from training.loop.noise import Noise
from training.loop.order import scattered
from training.loop.task import Task
from training.models.conditions import one_hot
from training.recipe import Recipe


class Batches:
    """The batches of a run, each a function of the recipe's seed and the step.

    An epoch takes every training item once, but for the last few that fill no batch.
    """

    def __init__(
        self, recipe: Recipe, dataset: Dataset, task: Task, most_rows: int, group: ProcessGroup
    ) -> None:
        """Take the training split, in batches of `most_rows`, or of all its rows if they are fewer.

        Raises:
            ProcessGroupError: The processes of the group cannot share such a batch equally.
            RecipeError: The recipe's [augmentation] does not fit the items.
        """
        self._items, self._labels = dataset.items["train"], dataset.labels["train"]
        self._held = None if is_mapped(self._items) else torch.from_numpy(self._items)
        self.rows = min(most_rows, len(self._items))
        """Rows of a batch, those of all processes together."""
        if self.rows % group.size:
            raise ProcessGroupError(
                f"batches of {self.rows} rows cannot be shared equally by {group.size} processes; "
                "set loop.batch_rows to a multiple of their number"
            )
        self._seed, self._group, self._classes = recipe.seed, group, task.classes
        self._augment = Augmentation(recipe.augmentation, dataset, task.support)
        self._dynamic = recipe.data.binarise == "dynamic"
        self._order = (-1, torch.empty(0, dtype=torch.int64))
        """An epoch, and the order of its rows."""

    def of_step(self, n: int, noise: Noise) -> tuple[Tensor, Tensor | None]:
        """Return this process's items of step n and, for a conditional task, their classes, one-hot."""
        epoch, position = divmod(n, len(self._items) // self.rows)
        items, rows = self._taken(epoch, slice(position * self.rows, (position + 1) * self.rows))
        items, labels = self._group.share(items), None
        if self._classes:
            labels = self._group.share(one_hot(self._labels[rows.numpy()], self._classes))
        if self._augment.changes:
            items = self._augment(items, Noise(self._seed, Noise.AUGMENTATION, n, self._group))
        if self._dynamic:
            items = (noise.uniform(*items.shape) < items).float()
        return items, labels

    def _taken(self, epoch: int, places: slice) -> tuple[Tensor, Tensor]:
        """Return the items at those places of the order of an epoch, and their row numbers."""
        if self._held is None:  # mapped items, whose order would take more memory than its batches
            numbers = np.arange(places.start, places.stop)
            keys = Noise(self._seed, Noise.ORDER, epoch).words(6)
            rows = torch.from_numpy(scattered(numbers, len(self._items), keys))
            items = torch.from_numpy(self._items[rows.numpy()])
            release(self._items)
            return items, rows
        if self._order[0] != epoch:
            order = Noise(self._seed, Noise.ORDER, epoch).permutation(len(self._items))
            self._order = (epoch, order)
        rows = self._order[1][places]
        return self._held[rows], rows
