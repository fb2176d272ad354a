"""The tables of a folder, and the protocol by which each is split.

Shapes: N rows of F features.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from training.data import DataError, Items

_MOST_ROWS = 10_000


@dataclass(frozen=True)
class OneClassTable:
    """Normal rows to learn, and rows to score."""

    learned: Items
    """(N, F), half of the normal rows; whatever a detector wants to hold out comes out of these."""
    scored: Items
    """(M, F), the other half and all anomalies."""
    anomalous: np.ndarray
    """(M,) bool."""


def table_names(folder: Path) -> list[str]:
    """Return the names of the tables `NAME.npz` in a folder, sorted; raise a DataError if there are none."""
    names = sorted(path.stem for path in folder.glob("*.npz"))
    if not names:
        raise DataError(
            f"{folder}: no tables; wanted files NAME.npz with `X` (rows, features) and `y` (1 = anomaly), "
            "such as the classical ones of ADBench, github.com/Minqi824/ADBench"
        )
    return names


def read_one_class_table(path: Path) -> OneClassTable:
    """Read a table and split it, always alike: at most 10,000 rows, half of the normal ones to learn."""
    with np.load(path, allow_pickle=False) as file:
        rows, labels = file["X"].astype(np.float32), file["y"].ravel()
    random = np.random.default_rng(0)
    if len(rows) > _MOST_ROWS:
        chosen = random.choice(len(rows), _MOST_ROWS, replace=False)
        rows, labels = rows[chosen], labels[chosen]
    normal = random.permutation(np.flatnonzero(labels == 0))
    learned, others = np.split(normal, [len(normal) // 2])
    anomalies = np.flatnonzero(labels == 1)
    scored = np.concatenate([rows[others], rows[anomalies]])
    return OneClassTable(rows[learned], scored, np.arange(len(scored)) >= len(others))
