"""Duplicate rows of a table: a row that training has seen too is worthless for calibration."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from service.format.columns import Column, column_places

_SHARE: Final = 0.05
"""The least share of duplicates that is told of."""
_TELLING: Final = 0.5
"""The share of rows that differ which differ in one column of numbers; rows of few values agree by chance."""
_OVER_CHANCE: Final = 3
"""Equal pairs of rows are this many times as many as if columns, each with its values, were independent."""


def duplicate_rows(values: npt.NDArray[np.floating], columns: Sequence[Column]) -> int:
    """Return the number of rows (rows, F) that repeat others; 0 if they are few or agree by chance.

    The most frequent row counts as chance: it is often that of all zeros.
    """
    _, first, times = np.unique(_digests(values), return_index=True, return_counts=True)
    copies, different = len(values) - len(times), values[first]
    if copies < max(2, _SHARE * len(values)) or len(times) < 2:
        return 0
    tell, chance = False, 1.0
    for column, place in column_places(columns):
        counts = np.unique(_digests(different[:, place]), return_counts=True)[1]
        chance *= float(((counts / len(times)) ** 2).sum())
        tell |= not column.categories and len(counts) >= _TELLING * len(times)
    equal = np.sort(times * (times - 1) / 2)[:-1].sum()
    pairs = len(values) * (len(values) - 1) / 2
    return copies if tell and equal > _OVER_CHANCE * chance * pairs else 0


def duplicates_note(values: npt.NDArray[np.floating], columns: Sequence[Column]) -> tuple[str, ...]:
    """Return a sentence on the rows that repeat others, if there are any."""
    copies = duplicate_rows(values, columns)
    if not copies:
        return ()
    return (
        f"{copies} of {len(values)} rows repeat another one. Unless new rows will do so as often, remove the "
        "copies, e.g. by drop_duplicates of pandas: rows that calibrate and test are among those that are "
        "learned, and the p-values of new rows will be too small.",
    )


def _digests(values: npt.NDArray[np.floating]) -> npt.NDArray[np.uint64]:
    """Return 64 bits for each row, which differ for rows that differ but in one case of some billions."""
    random = np.random.default_rng(0)
    digests = np.zeros(len(values), np.uint64)
    for column in values.T:
        bits = (column.astype(np.float64) + 0.0).view(np.uint64)  # -0.0 is 0.0
        bits ^= bits >> np.uint64(32)
        bits *= random.integers(2**63, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
        bits ^= bits >> np.uint64(29)
        digests = (digests + bits) * np.uint64(0x9E3779B97F4A7C15)
    return digests
