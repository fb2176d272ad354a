"""Compares real and generated items by their nearest neighbours, in a space where distances mean something.

Every item is the centre of a ball that reaches to its k-th nearest neighbour of the same kind; together the
balls estimate the support of that kind. Shapes: N real items, M generated ones, F features.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from sklearn.metrics import pairwise_distances_argmin_min, pairwise_distances_chunked
from sklearn.neighbors import NearestNeighbors

from service.numerics.noise import Doubles
from training.data.dataset import FloatArray

K = 5
"""The neighbour that the ball around an item reaches to, as in Naeem et al."""
_WORKING_MEBIBYTES = 16


class SameKind(NamedTuple):
    """N items of one kind, with distances from each to others of the same kind."""

    items: FloatArray
    """(N, F)."""
    nearest: FloatArray
    """(N,), to the nearest."""
    radii: FloatArray
    """(N,), to the k-th nearest."""


class Comparison(NamedTuple):
    """The contribution of each item to a figure; the figure is the mean."""

    precision: Doubles
    """(M,), 1 where a generated item lies in a real ball.

    Source: Kynkäänniemi et al. 2019, arXiv:1904.06991, equations 1 and 2.
    """
    recall: Doubles
    """(N,), 1 where a real item lies in a generated ball. Source: the same."""
    density: Doubles
    """(M,), the number of real balls a generated item lies in, over k; it may exceed 1.

    Source: Naeem et al. 2020, arXiv:2002.09797, equation 4.
    """
    coverage: Doubles
    """(N,), 1 where a real ball holds a generated item. Source: the same, equation 5."""
    real_recognised: Doubles
    """(N,), 1 where a real item's nearest neighbour among all others is real, 1/2 where it is a draw.

    One half on average if both kinds have one distribution and N = M. Source: Lopez-Paz & Oquab 2017,
    arXiv:1610.06545, section 4; Xu et al. 2018, arXiv:1806.07755, for the two kinds apart.
    """
    generated_recognised: Doubles
    """(M,), the same of generated items; near 0 if they repeat real ones."""


def same_kind(items: FloatArray) -> SameKind:
    """Measure distances within items (N, F) of one kind; raise a ValueError if there are k or fewer."""
    if len(items) <= K:
        raise ValueError(f"{len(items)} items came; wanted more than k = {K}")
    distances, _ = NearestNeighbors(n_neighbors=K, algorithm="brute").fit(items).kneighbors()
    return SameKind(items, distances[:, 0], distances[:, -1])


def compare(real: SameKind, generated: SameKind) -> Comparison:
    """Compare N real items with M generated ones, block by block in bounded memory."""
    in_balls: list[FloatArray] = []
    to_real: list[FloatArray] = []
    covered, recalled = np.zeros(len(real.items), bool), np.zeros(len(real.items), bool)
    to_generated, first = np.full(len(real.items), np.inf), 0
    blocks = pairwise_distances_chunked(generated.items, real.items, working_memory=_WORKING_MEBIBYTES)
    for distances in blocks:
        inside_real = distances <= real.radii
        in_balls.append(inside_real.sum(1))
        to_real.append(distances.min(1))
        covered |= inside_real.any(0)
        radii = generated.radii[first : first + len(distances)]
        recalled |= (distances <= radii[:, None]).any(0)
        to_generated = np.minimum(to_generated, distances.min(0))
        first += len(distances)
    counts = np.concatenate(in_balls)
    return Comparison(
        precision=(counts > 0).astype(np.float64),
        recall=recalled.astype(np.float64),
        density=counts / K,
        coverage=covered.astype(np.float64),
        real_recognised=_first_is_less(real.nearest, to_generated),
        generated_recognised=_first_is_less(generated.nearest, np.concatenate(to_real)),
    )


def nearer_to_training(samples: FloatArray, training: FloatArray, test: FloatArray) -> Doubles:
    """Return (M,): 1 where a sample is nearer to a training item than to any test item, 1/2 for a draw.

    With equally many of both, the mean is one half for samples that owe the training items no more than the
    test items, and more if training items are repeated. After the three-sample test of Meehan et al. 2020,
    arXiv:2004.05675, which asks the same by ranks. A ValueError is raised if the numbers of both differ.
    """
    if len(training) != len(test):
        raise ValueError(f"{len(training)} training and {len(test)} test items; wanted equally many")
    return _first_is_less(*(pairwise_distances_argmin_min(samples, each)[1] for each in (training, test)))


def _first_is_less(first: FloatArray, second: FloatArray) -> Doubles:
    recognised: Doubles = (first < second) + 0.5 * (first == second)
    return recognised
