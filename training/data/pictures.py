"""Pictures of any origin, as a dataset: values in [0, 1], binarised if asked."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from training.data.dataset import Dataset, Items
from training.data.options import DataOptions
from training.data.splits import Partition


def unit_interval(pixels: npt.NDArray[np.uint8]) -> Items:
    """Pixels 0 .. 255 as float32 in [0, 1]."""
    return pixels.astype(np.float32) / np.float32(255)


def picture_dataset(
    name: str, source: str, images: Items, partition: Partition, options: DataOptions
) -> Dataset:
    """The dataset of images (rows, C, H, W), float32 in [0, 1], split and binarised.

    With dynamic binarisation the training split stays grey, since every batch is drawn anew; the others
    and the outliers are drawn once, so that figures on them are repeatable.
    """

    def chosen(rows: npt.NDArray[np.int64], part: str) -> Items:
        if options.binarise == "threshold":
            return (images[rows] >= 0.5).astype(np.float32)
        if options.binarise == "dynamic" and part != "train":
            return _drawn(images[rows], [options.split_seed, len(part)])
        return images[rows]

    return Dataset(
        name=name,
        source=source,
        item_shape=images.shape[1:],
        class_names=partition.class_names,
        items={split: chosen(rows, split) for split, rows in partition.rows.items()},
        labels=partition.labels,
        outliers=None if partition.outliers is None else chosen(partition.outliers, "outliers"),
    )


def picture_source(images: Items, origin: str, keep: Sequence[str]) -> str:
    """The phrase for the model card."""
    rows, channels, height, width = images.shape
    kind = {1: "grey ", 3: "RGB "}.get(channels, "")
    return f"{rows} {kind}pictures of {height}x{width} pixels from {origin}{kept_classes(keep)}"


def kept_classes(keep: Sequence[str]) -> str:
    """What to add to that phrase if not all classes are kept."""
    return f" (kept classes: {', '.join(keep)})" if keep else ""


def _drawn(images: Items, seed: Sequence[int]) -> Items:
    uniforms = np.random.default_rng(seed).random(images.shape, dtype=np.float32)
    return (uniforms < images).astype(np.float32)
