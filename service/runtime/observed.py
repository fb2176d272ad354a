"""Draws of a table in the form of its rows: numbers with their digits, within their range.

A likelihood of numbers gives 41.7 for an age and -0.3 for a price, and so does a generator. Numbers are
rounded and clipped here and not in the graphs: processors differ in the last digits of a graph's values, and
rounding in the graph would turn some of these differences into a whole step.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from service.format.columns import Column, column_places
from service.numerics.noise import Floats


class ObservedForm:
    """The digits and the ranges of a table's columns."""

    def __init__(self, columns: Sequence[Column]) -> None:
        """Take the columns in the order of the features; those without bounds, and categories, stay."""
        bounded = [(column, place.start) for column, place in column_places(columns) if column.value_range]
        rounded = [(column, place) for column, place in bounded if column.decimals is not None]
        self._bounded = np.array([place for _, place in bounded], np.int64)
        self._low, self._high = np.array([column.value_range for column, _ in bounded]).reshape(-1, 2).T
        self._rounded = np.array([place for _, place in rounded], np.int64)
        self._steps = np.array([10.0 ** (column.decimals or 0) for column, _ in rounded])

    def apply(self, drawn: Floats) -> Floats:
        """Return draws (B, F), each number the nearest one of its column's form."""
        if not len(self._bounded):
            return drawn
        found = drawn.astype(np.float64)  # in which a decimal is near enough to become its float32
        found[:, self._bounded] = np.clip(found[:, self._bounded], self._low, self._high)
        found[:, self._rounded] = np.rint(found[:, self._rounded] * self._steps) / self._steps
        return found.astype(np.float32) + np.float32(0)  # which makes -0 a 0
