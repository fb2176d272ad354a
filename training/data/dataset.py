"""What a dataset is: items in four disjoint splits.

`train` fits weights, `validation` is watched and chosen on, `calibration` is used once, for p-values, after
every choice has been made, and `test` measures what is published.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt

from service.format.manifest import Column

Items = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]
Split = Literal["train", "validation", "calibration", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "calibration", "test")


class DataError(RuntimeError):
    """A dataset cannot be had or is not what it should be."""


@dataclass(frozen=True)
class Scaling:
    """The affine map (x - shift) / scale of features, each (F,) float32; fitted on the training split."""

    shift: Items
    scale: Items
    """Positive; 1 for the features of categorical columns, whose shift is 0."""


@dataclass(frozen=True)
class Dataset:
    """A dataset in its four splits."""

    name: str
    source: str
    """One phrase for the model card: what the items are and where they come from."""
    item_shape: tuple[int, ...]
    """(C, H, W) for pictures, with values in [0, 1]; (F,) for tables, in the columns' own units."""
    class_names: tuple[str, ...]
    """The classes of the splits' rows; empty if the items have none."""
    items: Mapping[Split, Items]
    """Per split: float32 (rows, *item_shape). With dynamic binarisation `train` is grey and is drawn per
    batch."""
    labels: Mapping[Split, Labels]
    """Per split: the class of each row, as its place in `class_names`; never shown to a model. All 0 if there
    are no classes."""
    columns: tuple[Column, ...] = ()
    """Tables: the columns, in order; a categorical one is as many features as it has categories."""
    scaling: Scaling | None = None
    """Tables: how the features are standardised inside the graphs."""
    outliers: Items | None = None
    """Items of classes that were kept out of every split, to try an anomaly score on; None if none were."""

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of what is learned and calibrated: the columns, and every item in its split and place."""
        digest = hashlib.sha256(repr([column.model_dump() for column in self.columns]).encode())
        for split in SPLITS:
            digest.update(f"{split} {self.items[split].shape}".encode())
            digest.update(np.ascontiguousarray(self.items[split]).data)
        return digest.hexdigest()
