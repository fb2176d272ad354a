"""Outliers of several kinds, to choose and to test anomaly scores with.

Shapes: N items; pictures (N, C, H, W).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from scipy.ndimage import gaussian_filter

from service.format.columns import column_places
from service.format.manifest import Support
from training.data import Dataset, Items, Labels
from training.data.stored import chosen_rows

_ROWS = 2000
"""The most test items that are made into outliers of one kind."""
_PLANTED_ROWS = 1000
"""The most outliers that are planted, or made of noise."""
_GREYS = 256
_SMALL_VALUES = 28 * 28
"""Pictures with more values have fewer outliers of each kind, down to an eighth: they take long to score."""
_PATCHES = 4
"""Patches along each side of a picture before they are shuffled."""
_BLUR = 1 / 16
"""The standard deviation of the blur, over a picture's height."""


class Outliers(NamedTuple):
    """Outliers of one kind, or the normal items that they are compared with."""

    kind: str
    items: Items
    """(N, *item)."""
    what: str
    """A phrase for the model card."""
    labels: Labels
    """(N,), the classes that they are scored as where there is a class condition: those of the items that
    they were made of, else all classes in turn."""


def ordinary_items(dataset: Dataset) -> Outliers:
    """Return the test split, with which outliers are compared."""
    return Outliers("test", dataset.items["test"], "test items", dataset.labels["test"])


def unseen_outliers(dataset: Dataset, support: Support) -> Iterator[Outliers]:
    """Yield kinds that nothing was trained, chosen or calibrated on: the classes that were kept out, if any.

    For pictures also uniform noise, every constant grey, test items with shuffled patches or turned over, and
    beside Fashion-MNIST scikit-learn's digits in its size.
    """
    yield from _kept_out("kept_out", dataset)
    if len(dataset.item_shape) == 3:
        for outliers in _pictures(dataset):
            items = outliers.items.round() if support == "binary" else outliers.items
            yield outliers._replace(items=np.ascontiguousarray(items))


def mislabelled(dataset: Dataset) -> Outliers:
    """Return the test items, each called the next class after its own."""
    labels = (dataset.labels["test"] + 1) % len(dataset.class_names)
    return Outliers("mislabelled", dataset.items["test"], "test items called another class", labels)


def planted_outliers(normal: Outliers, dataset: Dataset, support: Support) -> Iterator[Outliers]:
    """Yield outliers made of validation items: blurred and halved pictures, or rows of mixed columns."""
    items, labels, random = normal.items, normal.labels, np.random.default_rng(0)
    if len(dataset.item_shape) == 3:
        deviation = _BLUR * items.shape[2]
        blurred = gaussian_filter(items, (0, 0, deviation, deviation))
        blurred = blurred.round() if support == "binary" else blurred
        yield Outliers("blurred", blurred, "blurred validation items", labels)
        middle, others = items.shape[3] // 2, items[random.permutation(len(items))]
        halves = np.concatenate([items[..., :middle], others[..., middle:]], axis=3)
        yield Outliers("halves", halves, "pictures of two validation items' halves", labels)
    else:
        yield _mixed(dataset, items, "validation", random)


def simple_outliers(dataset: Dataset, support: Support) -> Iterator[Outliers]:
    """Yield table rows of mixed columns, or noise; and the classes that were kept out, if any."""
    random = np.random.default_rng(0)
    if support == "real":
        yield _mixed(dataset, dataset.items["train"], "training", random)
    else:
        rows = planted_rows(dataset.item_shape)
        noise = random.random((rows, *dataset.item_shape), dtype=np.float32)
        noise = noise.round() if support == "binary" else noise
        yield Outliers("noise", noise, "items of uniform noise", _in_turn(dataset, rows))
    yield from _kept_out("outliers", dataset)


def planted_rows(item_shape: tuple[int, ...]) -> int:
    """Return the most outliers that are planted, or made of noise."""
    return _few(_PLANTED_ROWS, item_shape)


def _few(most: int, item_shape: tuple[int, ...]) -> int:
    """Return the number of outliers of a kind that has at most so many."""
    if len(item_shape) != 3:
        return most
    return min(most, max(most // 8, most * _SMALL_VALUES // math.prod(item_shape)))


def _in_turn(dataset: Dataset, rows: int) -> Labels:
    return np.arange(rows) % max(1, len(dataset.class_names))


def _kept_out(kind: str, dataset: Dataset) -> Iterator[Outliers]:
    if dataset.outliers is not None:
        what = "items of the classes that were kept out"
        yield Outliers(kind, dataset.outliers, what, _in_turn(dataset, len(dataset.outliers)))


def _pictures(dataset: Dataset) -> Iterator[Outliers]:
    rows, count = (_few(most, dataset.item_shape) for most in (_ROWS, _GREYS))
    random, test = np.random.default_rng(0), dataset.items["test"][:rows]
    labels = dataset.labels["test"][:rows]
    if dataset.kind == "fashion-mnist":
        import torch  # which publishing from ONNX does without
        from sklearn.datasets import load_digits  # takes a second to import
        from torch.nn import functional as F

        digits = torch.from_numpy(load_digits().images.astype(np.float32) / 16)[:, None]
        for mode in ("nearest", "bilinear"):
            scaled = F.interpolate(digits, size=dataset.item_shape[1:], mode=mode).numpy()
            what = f"digits, 8x8 scaled up ({mode})"
            yield Outliers(f"digits_{mode}", scaled, what, _in_turn(dataset, len(scaled)))
    noise = random.random(test.shape, dtype=np.float32)
    yield Outliers("noise", noise, "pictures of uniform noise", labels)
    greys = np.linspace(0, 1, count, dtype=np.float32).reshape(-1, 1, 1, 1)
    greys = np.broadcast_to(greys, (count, *dataset.item_shape))
    of_greys = _in_turn(dataset, count)
    yield Outliers("constants", greys, "constant pictures from black to white", of_greys)
    if not any(side % _PATCHES for side in dataset.item_shape[1:]):
        what = f"test items with their {_PATCHES}x{_PATCHES} patches shuffled"
        yield Outliers("shuffled_patches", _shuffled(test, random), what, labels)
    yield Outliers("upside_down", test[:, :, ::-1], "test items upside down (vertical flip)", labels)
    yield Outliers("mirrored", test[..., ::-1], "test items mirrored (horizontal flip)", labels)


def _shuffled(pictures: Items, random: np.random.Generator) -> Items:
    """Shuffle the patches of pictures (N, C, H, W), differently in each picture."""
    count, channels, height, width = pictures.shape
    cut = pictures.reshape(count, channels, _PATCHES, height // _PATCHES, _PATCHES, width // _PATCHES)
    patches = cut.transpose(0, 2, 4, 1, 3, 5).reshape(count, _PATCHES**2, -1)
    shuffled = random.permuted(np.tile(np.arange(_PATCHES**2), (count, 1)), axis=1)
    moved = np.take_along_axis(patches, shuffled[..., None], axis=1)
    back = moved.reshape(count, _PATCHES, _PATCHES, channels, height // _PATCHES, width // _PATCHES)
    return back.transpose(0, 3, 1, 4, 2, 5).reshape(pictures.shape)


def _mixed(dataset: Dataset, items: Items, split: str, random: np.random.Generator) -> Outliers:
    """Make rows whose columns each come from another row of items (N, ...); without columns, their values."""
    rows = items.reshape(len(items), -1)
    places = [place for _, place in column_places(dataset.columns)]
    places = places or [slice(i, i + 1) for i in range(rows.shape[1])]
    parts = [chosen_rows(rows, random.integers(len(rows), size=_PLANTED_ROWS))[:, place] for place in places]
    mixed = np.concatenate(parts, axis=1).reshape(_PLANTED_ROWS, *items.shape[1:])
    what = f"rows with every column from another {split} row"
    return Outliers("mixed", mixed, what, _in_turn(dataset, _PLANTED_ROWS))
