"""The support of items: the one rule for which values a model takes, in training and in serving.

Shapes: N items; items (N, *item).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from service.format.columns import Column, column_places
from service.format.manifest import Support

Flags = NDArray[np.bool_]


def in_support(items: NDArray[np.float32], support: Support, takes_missing: bool = False) -> Flags:
    """Return True for every value (N, *item) that the support allows; NaN only as a missing value.

    Values of the support `eight_bit` need not be one of its 256 levels: the graphs round them to the nearest
    level, as a PNG would.
    """
    fits: Flags = (items >= 0) & (items <= 1)
    if support == "binary":
        fits = (items == 0) | (items == 1)
    elif support == "real":
        fits = np.isfinite(items)
        if takes_missing:
            fits |= np.isnan(items)
    return fits


def one_hot_rows(features: NDArray[np.float32], takes_missing: bool = False) -> Flags:
    """Return True for every row (N,) of features (N, C) that has a single 1 and zeros elsewhere.

    If `takes_missing`, a category may be missing: all of its features are NaN.
    """
    fits: Flags = (np.count_nonzero(features, axis=1) == 1) & (features.max(axis=1) == 1)
    if takes_missing:
        fits |= np.isnan(features).all(axis=1)
    return fits


def rows_in_support(
    items: NDArray[np.float32],
    support: Support,
    columns: tuple[Column, ...] = (),
    takes_missing: bool = False,
) -> Flags:
    """Return True for every item (N,) whose values fit, categories of the `columns` of a table included."""
    fits: Flags = np.all(in_support(items, support, takes_missing).reshape(len(items), -1), axis=1)
    for column, place in column_places(columns):
        if column.categories:
            fits &= one_hot_rows(items[:, place], takes_missing)
    return fits
