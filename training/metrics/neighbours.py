"""Real and generated items compared by their nearest neighbours, in a space where distances mean something.

Every item is the centre of a ball that reaches to its k-th nearest neighbour of the same kind; together the
balls stand for where that kind of item is found. Shapes: N real items, M generated ones, F features.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from sklearn.metrics import pairwise_distances_argmin, pairwise_distances_chunked
from sklearn.neighbors import NearestNeighbors

Floats = npt.NDArray[np.floating[Any]]
Shares = npt.NDArray[np.float64]

K = 5
"""Neighbours that a ball reaches to, as Naeem et al. choose."""
_WORKING_MEBIBYTES = 16


class SameKind(NamedTuple):
    """Distances from each of N items to others of the same kind."""

    nearest: Floats
    """(N,), to the nearest."""
    radii: Floats
    """(N,), to the k-th nearest."""


class Comparison(NamedTuple):
    """What each item adds to a figure; the figure is the mean."""

    precision: Shares
    """(M,), 1 where a generated item lies in a real ball.

    Source: Kynkäänniemi et al. 2019, arXiv:1904.06991, equation 1.
    """
    recall: Shares
    """(N,), 1 where a real item lies in a generated ball. Source: the same, equation 2."""
    density: Shares
    """(M,), the number of real balls a generated item lies in, over k; it may exceed 1.

    Source: Naeem et al. 2020, arXiv:2002.09797, equation 4.
    """
    coverage: Shares
    """(N,), 1 where a real ball holds a generated item. Source: the same, equation 5."""
    real_recognised: Shares
    """(N,), 1 where a real item's nearest neighbour among all others is real, 1/2 where it is a draw.

    One half on average if both kinds have one distribution and N = M. Source: Lopez-Paz & Oquab 2017,
    arXiv:1610.06545, section 4; Xu et al. 2018, arXiv:1806.07755, for the two kinds apart.
    """
    generated_recognised: Shares
    """(M,), the same of generated items; near 0 if they repeat real ones."""


def same_kind(items: Floats, k: int = K) -> SameKind:
    """Distances within items (N, F) of one kind.

    Raises:
        ValueError: There are not more than k of them.
    """
    if len(items) <= k:
        raise ValueError(f"{len(items)} items came; wanted more than k = {k}")
    distances, _ = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(items).kneighbors()
    return SameKind(distances[:, 0], distances[:, -1])


def compare(
    real: Floats, generated: Floats, among_real: SameKind, among_generated: SameKind, k: int = K
) -> Comparison:
    """Compare real items (N, F) with generated ones (M, F), block by block in bounded memory."""
    in_balls: list[Floats] = []
    to_real: list[Floats] = []
    covered, recalled = np.zeros(len(real), bool), np.zeros(len(real), bool)
    to_generated, first = np.full(len(real), np.inf), 0
    for distances in pairwise_distances_chunked(generated, real, working_memory=_WORKING_MEBIBYTES):
        inside_real = distances <= among_real.radii
        in_balls.append(inside_real.sum(1))
        to_real.append(distances.min(1))
        covered |= inside_real.any(0)
        radii = among_generated.radii[first : first + len(distances)]
        recalled |= (distances <= radii[:, None]).any(0)
        to_generated = np.minimum(to_generated, distances.min(0))
        first += len(distances)
    counts = np.concatenate(in_balls)
    return Comparison(
        precision=(counts > 0).astype(np.float64),
        recall=recalled.astype(np.float64),
        density=counts / k,
        coverage=covered.astype(np.float64),
        real_recognised=_first_is_less(among_real.nearest, to_generated),
        generated_recognised=_first_is_less(among_generated.nearest, np.concatenate(to_real)),
    )


def nearer_to_training(samples: Floats, training: Floats, test: Floats) -> Shares:
    """(M,), 1 where the nearest neighbour of a sample among training and test items is a training item.

    With equally many of both, one half on average for samples that owe the training items no more than the
    test items; more if training items are repeated. After the three-sample test of Meehan et al. 2020,
    arXiv:2004.05675, which asks the same by ranks.

    Raises:
        ValueError: There are not equally many training and test items.
    """
    if len(training) != len(test):
        raise ValueError(f"{len(training)} training and {len(test)} test items; wanted equally many")
    nearest = pairwise_distances_argmin(samples, np.concatenate([training, test]))
    nearer: Shares = (nearest < len(training)).astype(np.float64)
    return nearer


def _first_is_less(first: Floats, second: Floats) -> Shares:
    recognised: Shares = (first < second) + 0.5 * (first == second)
    return recognised
