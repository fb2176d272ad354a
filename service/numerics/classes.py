"""Classes of rows as graphs take them."""

from __future__ import annotations

import numpy as np

from service.numerics.noise import Floats, Integers


def one_hot(labels: int | Integers, rows: int, classes: int) -> Floats:
    """Return the numbers of the class of all rows, or of each, (rows,), as (rows, classes)."""
    encoded = np.zeros((rows, classes), np.float32)
    encoded[np.arange(rows), labels] = 1
    return encoded
