"""The classes of a dataset as the condition of a model. Shapes: B rows, C classes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol, Self, TypeVar

import numpy as np
import torch
from torch import Tensor

from training.data import Dataset
from training.data.dataset import Labels
from training.recipe import Recipe, RecipeError

_FEWEST = 2


class Conditional(Protocol):
    """A model that may have a class condition."""

    classes: int
    """C; 0 without a condition."""

    def given(self, labels: Tensor) -> Self:
        """Return the model of rows of those classes, (B, C) one-hot."""


Model = TypeVar("Model", bound=Conditional)


def classes_of_condition(recipe: Recipe, dataset: Dataset) -> int:
    """Return the number of classes that a recipe's model takes, 0 if it is not conditional.

    Raises:
        RecipeError: The items have fewer than two classes.
    """
    if not recipe.conditional:
        return 0
    count = len(dataset.class_names)
    if count < _FEWEST:
        named = f"the class {dataset.class_names[0]!r} alone" if count else "no classes"
        raise RecipeError(
            f"{recipe.family}.conditional came with items of {dataset.name!r}, which have {named}; give "
            "labels (the key `labels` of an .npz, a sub-folder of pictures for each class, data.label of a "
            "table), or leave it out"
        )
    return count


def one_hot(labels: Labels, classes: int) -> Tensor:
    """Return labels (B,), numbers from 0, as (B, C) float32."""
    return torch.from_numpy(np.eye(classes, dtype=np.float32)[labels])


def in_turn(classes: int, rows: int) -> Tensor:
    """Return the classes of rows that have them in turn, (B, C) float32."""
    return one_hot(np.arange(rows) % classes, classes)


def given_labels(model: Model, labels: Labels) -> Model:
    """Return the model of rows with those labels (B,), or the model itself if it has no condition."""
    return model.given(one_hot(labels, model.classes)) if model.classes else model


def in_batches(model: Model, labels: Labels, rows: int) -> Iterator[tuple[Model, slice]]:
    """Yield at most `rows` places at a time of rows with those labels (N,), and the model of these rows."""
    for first in range(0, len(labels), rows):
        places = slice(first, first + rows)
        yield given_labels(model, labels[places]), places
