"""Distances between distributions of features that are only known by samples.

Written in float64 rather than taken from torchmetrics, whose versions are tied to Inception, rounded to
float32, without a standard error, and take subsets from torch's global generator. Shapes: N real items, M
generated ones, F features.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from training.data.dataset import FloatArray

_BOOTSTRAPS = 50
"""Resamplings for a standard error."""
SUBSET_ROWS = 1000
"""Items in one subset of the kernel distance, as in Bińkowski et al."""


class Estimate(NamedTuple):
    """A distance, or a bound on one, and its standard error."""

    value: float
    standard_error: float


def frechet_distance(real: FloatArray, generated: FloatArray, random: np.random.Generator) -> Estimate:
    """Return |m - n|^2 + tr(C + D - 2 (C D)^(1/2)) of Gaussians with the moments of (N, F) and (M, F).

    It is biased upwards if items are few (Chong & Forsyth 2020, arXiv:1911.07023), so compare equal numbers.
    The standard error is that of resampled items. Source: Heusel et al. 2017, arXiv:1706.08500, eq. 6.
    """
    real, generated = real.astype(np.float64), generated.astype(np.float64)
    repeated = [
        _frechet(*(items[random.integers(len(items), size=len(items))] for items in (real, generated)))
        for _ in range(_BOOTSTRAPS)
    ]
    return Estimate(_frechet(real, generated), float(np.std(repeated, ddof=1)))


def kernel_distance(real: FloatArray, generated: FloatArray, random: np.random.Generator) -> Estimate:
    """Return the squared maximum mean discrepancy, unbiased, with the kernel (x y / F + 1)^3.

    The mean over disjoint random subsets of 1 000 items, whose spread gives the standard error; the rest is
    left out; a ValueError is raised if there are no two such subsets. Source: Bińkowski et al. 2018,
    arXiv:1801.01401, section 3.2.
    """
    parts = min(len(real), len(generated)) // SUBSET_ROWS
    if parts < 2:
        raise ValueError(
            f"{len(real)} and {len(generated)} items came; wanted at least {2 * SUBSET_ROWS} of each"
        )
    subsets = [
        np.split(items.astype(np.float64)[random.permutation(len(items))[: parts * SUBSET_ROWS]], parts)
        for items in (real, generated)
    ]
    values = [_discrepancy(x, y) for x, y in zip(*subsets, strict=True)]
    return Estimate(float(np.mean(values)), float(np.std(values, ddof=1) / math.sqrt(parts)))


def _frechet(real: FloatArray, generated: FloatArray) -> float:
    (m, c), (n, d) = ((items.mean(0), np.cov(items, rowvar=False)) for items in (real, generated))
    values, vectors = np.linalg.eigh(c)
    root = vectors * np.sqrt(values.clip(min=0)) @ vectors.T
    # C D has the eigenvalues of C^(1/2) D C^(1/2), which is symmetric
    cross = np.linalg.eigvalsh(root @ d @ root).clip(min=0)
    return float(((m - n) ** 2).sum() + np.trace(c) + np.trace(d) - 2 * np.sqrt(cross).sum())


def _discrepancy(x: FloatArray, y: FloatArray) -> float:
    within = sum(_mean_beside_diagonal(_kernel(items, items)) for items in (x, y))
    return float(within - 2 * _kernel(x, y).mean())


def _kernel(x: FloatArray, y: FloatArray) -> FloatArray:
    base: FloatArray = x @ y.T / x.shape[1] + 1
    return base * base * base  # numpy's power takes ten times as long


def _mean_beside_diagonal(matrix: FloatArray) -> float:
    return float(matrix.sum() - matrix.trace()) / (matrix.size - len(matrix))
