"""Makes a dataset of pictures: values in [0, 1], binarised if the recipe says so."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import cast

import numpy as np

from training.data.dataset import Dataset, Items, Rows
from training.data.options import DataOptions
from training.data.splits import MOST_HELD_OUT_ROWS, Partition, cut_notes
from training.data.stored import StoredPictures

_STREAMS = {"validation": 10, "calibration": 11, "test": 4, "outliers": 8}
"""The random stream that binarises each part; published models were trained and measured with these."""
_HELD_OUT_BYTES, _FEWEST_HELD_OUT = 2**26, 1_000
"""Most memory of each held-out part of stored pictures, and the pictures that it has at least."""
_LOOKED_AT = 1_000
_DARK = 1 / 8
"""Pictures none of whose values is above it are told of."""


def picture_dataset(
    name: str, source: str, images: Items | StoredPictures, partition: Partition, options: DataOptions
) -> Dataset:
    """Split and binarise images (rows, C, H, W), float32 in [0, 1]; `source` gets the kept classes added.

    With dynamic binarisation the training split stays grey, because every batch is drawn anew. The other
    splits and the outliers are drawn once, so that figures on them are repeatable. The training split of
    stored pictures stays where it is, and a bounded number of the others is read.
    """
    notes: tuple[str, ...] = ()
    if isinstance(images, StoredPictures):
        partition, notes = _bounded(partition, images, options)

    def chosen(rows: Rows, part: str) -> Items:
        if isinstance(images, StoredPictures) and part == "train":
            return cast("Items", images.chosen(rows, binary=options.binarise == "threshold"))
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
        notes=notes,
        kind=options.dataset,
    )


def _bounded(
    partition: Partition, images: StoredPictures, options: DataOptions
) -> tuple[Partition, tuple[str, ...]]:
    """Return a partition whose held-out parts have a bounded number of rows, drawn at random; and say so."""
    size = np.dtype(np.float32).itemsize * math.prod(images.shape[1:])
    most = max(_FEWEST_HELD_OUT, min(MOST_HELD_OUT_ROWS, _HELD_OUT_BYTES // size))
    rows = {split: each if split == "train" else each[:most] for split, each in partition.rows.items()}
    counts: list[tuple[str, int]] = [(split, len(each)) for split, each in partition.rows.items()]
    outliers = partition.outliers
    if outliers is not None:
        counts.append(("outliers", len(outliers)))
        if len(outliers) > most:
            random = np.random.default_rng([options.split_seed, _STREAMS["outliers"]])
            outliers = np.sort(random.choice(outliers, most, replace=False))
    notes = (
        f"The pictures take more than {options.memory_mib} MiB, so batches are read from a file.",
        *cut_notes(counts, most, "pictures"),
    )
    return replace(partition, rows=rows, outliers=outliers), notes


def picture_source(images: Items | StoredPictures, origin: str) -> str:
    """Return the phrase for the model card: number, kind and size of the images and their origin."""
    rows, channels, height, width = images.shape
    kind = {1: "grey ", 3: "RGB "}.get(channels, "")
    return f"{rows} {kind}pictures of {height}x{width} pixels from {origin}"


def darkness_note(images: Items | StoredPictures) -> str | None:
    """Return a sentence on pictures (rows, C, H, W) in [0, 1] that are all nearly black, else None.

    At most 1 000 of them are looked at, at even distances.
    """
    places = range(0, len(images), max(1, -(-len(images) // _LOOKED_AT)))
    largest = max(float(images[place : place + 1].max()) for place in places)  # one in memory at a time
    if largest > _DARK:
        return None
    return (
        f"No value of {len(places)} pictures is above {largest:.3f}, of a range to 1: they are nearly black, "
        "perhaps because they have 12 bits and were saved as 16; save them with 8 bits, or all values times "
        "16."
    )
