"""A dataset: items in four disjoint splits.

Weights are fitted on `train`; `validation` is watched during training and used for choices; `calibration` is
used once, for p-values, after every choice has been made; the published figures are measured on `test`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from service.format.manifest import Column

Items = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]
Rows = npt.NDArray[np.int64]
Pixels = npt.NDArray[np.uint8]
"""Pixel values, 0 to 255."""
FloatArray = npt.NDArray[np.floating[Any]]
"""Floating-point numbers of any precision."""
Split = Literal["train", "validation", "calibration", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "calibration", "test")


class DataError(RuntimeError):
    """The data is missing, unreadable or unfit for training."""


@dataclass(frozen=True)
class Scaling:
    """The standardisation (x - shift) / scale of features, each (F,) float32; from the training split."""

    shift: Items
    scale: Items
    """Positive. The features of categorical columns have scale 1 and shift 0."""


@dataclass(frozen=True)
class Dataset:
    """A dataset and its four splits."""

    name: str
    source: str
    """A phrase for the model card: what the items are and where they come from."""
    item_shape: tuple[int, ...]
    """(C, H, W) for pictures, with values in [0, 1]; (F,) for tables, in the columns' own units."""
    class_names: tuple[str, ...]
    """The classes of the splits' items; empty if the items have none."""
    items: Mapping[Split, Items]
    """Per split: float32 (rows, *item_shape). With dynamic binarisation `train` holds grey values, which are
    binarised anew for every batch."""
    labels: Mapping[Split, Labels]
    """Per split: the class of each item as an index into `class_names`; all 0 without classes."""
    columns: tuple[Column, ...] = ()
    """Tables: the columns, in order; a categorical column has one feature per category."""
    scaling: Scaling | None = None
    """Tables: the standardisation that happens inside the graphs."""
    outliers: Items | None = None
    """Items of the classes that are in no split, to test anomaly scores on; None if all classes are kept."""

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the columns and of every item in its split and order."""
        digest = hashlib.sha256(repr([column.model_dump() for column in self.columns]).encode())
        for split in SPLITS:
            digest.update(f"{split} {self.items[split].shape}".encode())
            digest.update(np.ascontiguousarray(self.items[split]).data)
        return digest.hexdigest()
