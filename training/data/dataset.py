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

from service.format.columns import Column
from service.format.specs import PictureForm
from training.data.stored import in_blocks

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
    constants: tuple[int, ...] = ()
    """The features that have one value in the training split, their shift; networks do not see them."""
    takes_missing: bool = False
    """True if NaN in an item means a missing value; else items hold none."""
    masked: tuple[int, ...] = ()
    """The first features of the columns that lack values in the training split; networks see which do."""
    absent: tuple[int, ...] = ()
    """The features of categories that stand for those which the file does not have, 0 in all rows."""

    def standardised(self, items: Items) -> Items:
        """Return items (N, F) as networks see them, with 0 for constants and for missing values."""
        scaled: Items = np.nan_to_num((items - self.shift) / self.scale, copy=False)
        scaled[:, list(self.constants)] = 0
        return scaled


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
    binarised anew for every batch. `train` may lie in a mapped file, as an array or as `StoredPictures`,
    which are indexed alike."""
    labels: Mapping[Split, Labels]
    """Per split: the class of each item as an index into `class_names`; all 0 without classes."""
    columns: tuple[Column, ...] = ()
    """Tables: the columns, in order; a categorical column has one feature per category."""
    scaling: Scaling | None = None
    """Tables: the standardisation that happens inside the graphs."""
    picture: PictureForm | None = None
    """Files of pictures: what was done to each; None for other data."""
    left_out: tuple[str, ...] = ()
    """Tables: the columns of the file that the model does not see."""
    outliers: Items | None = None
    """Items of the classes that are in no split, to test anomaly scores on; None if all classes are kept."""
    notes: tuple[str, ...] = ()
    """Sentences about what was left out, changed or assumed, for the terminal and the model card."""
    kind: str = ""
    """The recipe's `data.dataset`, by which built-in data is known: a user's file may have any name."""

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the columns and of every item in its split and order.

        What follows from the items, or came to columns later, is left out: older runs can be continued.
        """
        later = {"unseen", "value_range", "decimals"}
        columns = [
            column.model_dump(exclude=later | (set() if column.codes else {"codes"}))
            for column in self.columns
        ]
        digest = hashlib.sha256(repr(columns).encode())
        for split in SPLITS:
            digest.update(f"{split} {self.items[split].shape}".encode())
            for rows in in_blocks(self.items[split]):
                digest.update(np.ascontiguousarray(rows).data)
        return digest.hexdigest()

    @cached_property
    def labelled_fingerprint(self) -> str:
        """SHA-256 of the same and of the classes, which a model with a class condition learns too."""
        digest = hashlib.sha256(f"{self.fingerprint} {self.class_names}".encode())
        for split in SPLITS:
            digest.update(np.ascontiguousarray(self.labels[split]).data)
        return digest.hexdigest()
