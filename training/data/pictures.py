"""Makes a dataset of pictures: values in [0, 1], binarised if the recipe says so."""

from __future__ import annotations

import numpy as np

from training.data.dataset import Dataset, Items, Rows
from training.data.options import DataOptions
from training.data.splits import Partition

_STREAMS = {"validation": 10, "calibration": 11, "test": 4, "outliers": 8}
"""The random stream that binarises each part; published models were trained and measured with these."""


def picture_dataset(
    name: str, source: str, images: Items, partition: Partition, options: DataOptions
) -> Dataset:
    """Split and binarise images (rows, C, H, W), float32 in [0, 1]; `source` gets the kept classes added.

    With dynamic binarisation the training split stays grey, because every batch is drawn anew. The other
    splits and the outliers are drawn once, so that figures on them are repeatable.
    """

    def chosen(rows: Rows, part: str) -> Items:
        if options.binarise == "threshold":
            return (images[rows] >= 0.5).astype(np.float32)
        if options.binarise == "dynamic" and part != "train":
            random = np.random.default_rng([options.split_seed, _STREAMS[part]])
            return (random.random(images[rows].shape, dtype=np.float32) < images[rows]).astype(np.float32)
        return images[rows]

    return Dataset(
        name=name,
        source=source + (f" (kept classes: {', '.join(options.keep)})" if options.keep else ""),
        item_shape=images.shape[1:],
        class_names=partition.classes.names,
        items={split: chosen(rows, split) for split, rows in partition.rows.items()},
        labels=partition.labels,
        outliers=None if partition.outliers is None else chosen(partition.outliers, "outliers"),
    )


def picture_source(images: Items, origin: str) -> str:
    """Return the phrase for the model card: number, kind and size of the images and their origin."""
    rows, channels, height, width = images.shape
    kind = {1: "grey ", 3: "RGB "}.get(channels, "")
    return f"{rows} {kind}pictures of {height}x{width} pixels from {origin}"
