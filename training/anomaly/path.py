"""The statistic `path`: a Mahalanobis distance from held-out items. It needs no torch.

Shapes: N held-out items, F features.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from service.format.statistics import NoiseFree
from service.numerics.noise import Doubles

FEATURES = ("residual", "mean", "scale", "surprise", "kl")
"""The features of `path`: the norms of the reconstruction error, of the posterior mean and of its standard
deviations; and, in nats, the surprise at the posterior mean and the KL. The first three are those of Huang et
al. 2024, arXiv:2401.04933; the surprise replaces their fourth, the decoder's scale."""
FITTED: NoiseFree = "path"
"""The statistic that is fitted, on items that must not be used to compare statistics."""
_LEAST_SPREAD = 0.01
"""The least standard deviation of a feature over 1 + |mean|: below it, rounding of float32 would dominate."""
LEAST_VARIANCE = 1e-3
"""The least variance along any direction of standardised features, for the same reason."""
_MOST_GAIN = 500.0
"""The most by which the map may enlarge what is rounded of features, relative to 1 + |mean|: those of a model
that has learned next to nothing hardly vary and follow from each other, so that rounding would decide."""


class Whitening(NamedTuple):
    """The linear map that gives features of held-out items mean 0 and covariance I."""

    centre: Doubles
    """(F,), their mean."""
    matrix: Doubles
    """(F, F), the inverse of the lower Cholesky factor of their covariance."""


def fit_whitening(features: Doubles, least_variance: float = LEAST_VARIANCE) -> Whitening:
    """Fit the map on features (N, F).

    A feature that hardly varies, or nearly follows from the others, is given a small variance. The fewer the
    items, the larger it is, since few vary in few directions. If the map still enlarges rounding too much,
    all features are given the one with which it does not.
    """
    centre = features.mean(0)
    units = 1 + np.abs(centre)
    spread = np.maximum(features.std(0), _LEAST_SPREAD * units)
    standardised = (features - centre) / spread
    correlation = standardised.T @ standardised / len(features)
    least_variance = max(least_variance, (len(centre) / len(features)) ** 2)
    missing = max(least_variance - float(np.linalg.eigvalsh(correlation)[0]), 0.0)
    factor = np.linalg.cholesky(correlation + missing * np.eye(len(centre)))
    matrix: Doubles = np.linalg.inv(factor) / spread
    if (np.abs(matrix) @ units).max() > _MOST_GAIN:
        relative = (features - centre) / units
        least = len(centre) / _MOST_GAIN**2  # no row of the inverse factor is longer than 1 / sqrt(least)
        factor = np.linalg.cholesky(relative.T @ relative / len(features) + least * np.eye(len(centre)))
        matrix = np.linalg.inv(factor) / units
    return Whitening(centre, matrix)
