"""Moments of a table's columns in the training split: of all rows at once, or block by block."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from service.format.columns import MOST_DECIMALS
from service.numerics.noise import Doubles


class Moments:
    """The means, deviations, ranges and decimals of C columns; NaN is a missing value.

    Blocks are added by the update of Chan, Golub and LeVeque 1983, "Algorithms for computing the sample
    variance", The American Statistician 37, equation 2.1.
    """

    def __init__(self, columns: int, parts: int = 1) -> None:
        self.rows = 0
        """Rows of all splits."""
        self.parts = np.zeros(parts, np.int64)
        """Rows of each split; the first is the training split."""
        self.missing = np.zeros(columns, np.int64)
        """Missing values of all splits, (C,)."""
        self.count = np.zeros(columns, np.int64)
        """Values in the training split, (C,)."""
        self.mean = np.zeros(columns)
        self.low, self.high = np.full(columns, np.inf), np.full(columns, -np.inf)
        self.decimals = np.zeros(columns, np.int64)
        """Decimals that the training split's values have at most, (C,); more than `MOST_DECIMALS` for any."""
        self._squares = np.zeros(columns)

    @property
    def deviation(self) -> Doubles:
        """The standard deviations of the columns, (C,); 0 without values."""
        return np.sqrt(self._squares / np.maximum(self.count, 1))

    def add(self, values: Doubles, parts: npt.NDArray[np.int64]) -> None:
        """Add a block of rows (rows, C), and the split of each as its place."""
        self.rows += len(values)
        self.parts += np.bincount(parts, minlength=len(self.parts))
        self.missing += np.isnan(values).sum(axis=0)
        self._add_train(values[parts == 0])

    def add_whole(self, column: int, values: Doubles, train: npt.NDArray[np.int64]) -> None:
        """Set a column from all of its values (rows,) and the rows of the training split."""
        self.rows, self.parts[0] = len(values), len(train)
        self.missing[column] = np.isnan(values).sum()
        learned = values[train]
        learned = learned[~np.isnan(learned)]
        self.count[column] = len(learned)
        if len(learned):
            self.mean[column], self._squares[column] = learned.mean(), learned.var() * len(learned)
            self.low[column], self.high[column] = learned.min(), learned.max()
            self.decimals[column] = _decimals_of(learned, 0)

    def _add_train(self, values: Doubles) -> None:
        there = ~np.isnan(values)
        count = there.sum(axis=0)
        filled = np.where(there, values, 0.0)
        mean = filled.sum(axis=0) / np.maximum(count, 1)
        squares = (np.where(there, values - mean, 0.0) ** 2).sum(axis=0)
        total = self.count + count
        step = mean - self.mean
        share = count / np.maximum(total, 1)
        self._squares += squares + step**2 * self.count * share
        self.mean += step * share
        self.count = total
        if len(values):
            self.low = np.minimum(self.low, np.where(there, values, np.inf).min(axis=0))
            self.high = np.maximum(self.high, np.where(there, values, -np.inf).max(axis=0))
            learned = zip(values.T, there.T, self.decimals.tolist(), strict=True)
            self.decimals[:] = [_decimals_of(each[present], least) for each, present, least in learned]


def _decimals_of(values: Doubles, least: int) -> int:
    """Return the fewest decimals, from `least` on, that write values (rows,); too many if none do."""
    for decimals in range(least, MOST_DECIMALS + 1):
        rounded = np.round(values, decimals)
        if ((rounded == values) | (rounded.astype(np.float32) == values)).all():  # of a file of float32
            return decimals
    return MOST_DECIMALS + 1
