"""A random order of any number of rows that is computed place by place, so that it takes no memory."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


def scattered(places: npt.NDArray[np.int64], length: int, keys: Sequence[int]) -> npt.NDArray[np.int64]:
    """Return the row at each place (B,) of an order of the rows 0 .. length - 1, which the keys determine.

    A Feistel network permutes the numbers below the next power of four; a number that is no row is permuted
    again until it is one. Source: Black and Rogaway 2002, "Ciphers with arbitrary finite domains", CT-RSA,
    section 4.
    """
    half = np.uint64(max(1, (max(1, length - 1).bit_length() + 1) // 2))
    mask = np.uint64((1 << int(half)) - 1)
    rows = places.astype(np.uint64)
    wanted = np.ones(len(rows), bool)
    while wanted.any():
        left, right = rows[wanted] >> half, rows[wanted] & mask
        for key in keys:
            with np.errstate(over="ignore"):
                mixed = (right ^ np.uint64(key)) * _MULTIPLIER
                mixed = (mixed ^ (mixed >> np.uint64(29))) * _MULTIPLIER
            left, right = right, left ^ ((mixed >> np.uint64(32)) & mask)
        rows[wanted] = (left << half) | right
        wanted = rows >= length
    return rows.astype(np.int64)
