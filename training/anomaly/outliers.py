"""Outliers of kinds that nothing was trained, chosen or calibrated on, to judge anomaly scores by.

Shapes: N items; pictures (N, C, H, W).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch.nn import functional as F

from service.format.manifest import Support
from training.data import Dataset, Items

ROWS = 2000
"""At most so many test items are made outliers of, and outliers made of noise."""
_GREYS = 256
_PATCHES = 4
"""How many patches a picture has along each side before they are shuffled."""


class Outliers(NamedTuple):
    """Outliers of one kind."""

    kind: str
    items: Items
    """(N, *item)."""
    what: str
    """A phrase for the model card."""


def unseen_outliers(dataset: Dataset, support: Support) -> Iterator[Outliers]:
    """The kinds that fit the dataset: the classes that were kept out, if any, and of pictures what is none.

    Pictures: uniform noise, every constant grey, test items with shuffled patches or turned over, and beside
    Fashion-MNIST scikit-learn's digits in its size.
    """
    if dataset.outliers is not None:
        yield Outliers("kept_out", dataset.outliers, "items of the classes that were kept out")
    if len(dataset.item_shape) != 3:
        return
    for outliers in _pictures(dataset):
        items = outliers.items.round() if support == "binary" else outliers.items
        yield outliers._replace(items=np.ascontiguousarray(items))


def _pictures(dataset: Dataset) -> Iterator[Outliers]:
    random, test = np.random.default_rng(0), dataset.items["test"][:ROWS]
    if dataset.name == "fashion-mnist":
        for mode in ("nearest", "bilinear"):
            yield Outliers(f"digits_{mode}", _digits(dataset, mode), f"digits, 8x8 scaled up ({mode})")
    yield Outliers("noise", random.random(test.shape, dtype=np.float32), "pictures of uniform noise")
    greys = np.linspace(0, 1, _GREYS, dtype=np.float32).reshape(-1, 1, 1, 1)
    greys = np.broadcast_to(greys, (_GREYS, *dataset.item_shape))
    yield Outliers("constants", greys, "constant pictures from black to white")
    if not any(side % _PATCHES for side in dataset.item_shape[1:]):
        what = f"test items with their {_PATCHES}x{_PATCHES} patches shuffled"
        yield Outliers("shuffled_patches", _shuffled(test, random), what)
    yield Outliers("upside_down", test[:, :, ::-1], "test items upside down (vertical flip)")
    yield Outliers("mirrored", test[..., ::-1], "test items mirrored (horizontal flip)")


def _digits(dataset: Dataset, mode: Literal["nearest", "bilinear"]) -> Items:
    from sklearn.datasets import load_digits  # takes a second to import

    digits = torch.from_numpy(load_digits().images.astype(np.float32) / 16)[:, None]
    scaled: Items = F.interpolate(digits, size=dataset.item_shape[1:], mode=mode).numpy()
    return scaled


def _shuffled(pictures: Items, random: np.random.Generator) -> Items:
    """Pictures (N, C, H, W) whose patches have changed places, in each picture another way."""
    count, channels, height, width = pictures.shape
    cut = pictures.reshape(count, channels, _PATCHES, height // _PATCHES, _PATCHES, width // _PATCHES)
    patches = cut.transpose(0, 2, 4, 1, 3, 5).reshape(count, _PATCHES**2, -1)
    shuffled = random.permuted(np.tile(np.arange(_PATCHES**2), (count, 1)), axis=1)
    moved = np.take_along_axis(patches, shuffled[..., None], axis=1)
    back = moved.reshape(count, _PATCHES, _PATCHES, channels, height // _PATCHES, width // _PATCHES)
    return back.transpose(0, 3, 1, 4, 2, 5).reshape(pictures.shape)
