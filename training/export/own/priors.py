"""Priors as formulas: the standard normal, or a mixture of diagonal Gaussians.

Shapes: B rows, K draws, D latent dimensions, M components; latents (B, K, D).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from service.numerics.noise import Doubles, Floats
from training.export.own.algebra import Algebra, Tensor

_LOG_TWO_PI = math.log(2 * math.pi)


@dataclass(frozen=True)
class MixtureOfGaussians:
    """A mixture prior: weights that add up to 1, means and log-variances; lists and any floats are taken."""

    weights: Doubles
    """(M,)."""
    means: Floats
    """(M, D)."""
    log_variances: Floats
    """(M, D)."""

    def __post_init__(self) -> None:
        for name, kind in (("weights", np.float64), ("means", np.float32), ("log_variances", np.float32)):
            object.__setattr__(self, name, np.asarray(getattr(self, name), kind))


def normal_log_prob(f: Algebra, values: Tensor, width: int) -> Tensor:
    """Return log N(values; 0, I) in nats, summed over the last axis."""
    return -0.5 * f.sum(values * values + _LOG_TWO_PI, width)


def prior_log_prob(f: Algebra, latents: Tensor, width: int, mixture: MixtureOfGaussians | None) -> Tensor:
    """Return log p(z) in nats of latents (B, K, D), (B, K)."""
    if mixture is None:
        return normal_log_prob(f, latents, width)
    constants = np.sum(mixture.log_variances + _LOG_TWO_PI, 1, dtype=np.float64)
    exponents = -0.5 * (_squared_distances(f, latents, mixture) + constants.astype(np.float32))
    return _log_mean(f, exponents, mixture)


def prior_kl(
    f: Algebra, mean: Tensor, log_variance: Tensor, width: int, mixture: MixtureOfGaussians | None
) -> Tensor:
    """Return KL(q || p) in nats, (B,), of q = N(mean, exp(log_variance)), each (B, D).

    To a mixture it is the variational upper bound -log sum w_m exp(-KL(q || p_m)). Source: Hershey & Olsen
    2007, "Approximating the Kullback Leibler divergence between Gaussian mixture models", section 8.
    """
    if mixture is None:
        return 0.5 * f.sum(mean * mean + f.exp(log_variance) - 1.0 - log_variance, width)
    squares = _squared_distances(f, mean, mixture)
    spreads = f.matmul(f.exp(log_variance), f.constant(np.exp(-mixture.log_variances).T))
    sums = np.sum(mixture.log_variances, 1, dtype=np.float64).astype(np.float32)
    cross_entropies = 0.5 * (squares + spreads + f.constant(sums))
    return -_log_mean(f, -cross_entropies, mixture) - 0.5 * f.sum(log_variance + 1.0, width)


def _log_mean(f: Algebra, exponents: Tensor, mixture: MixtureOfGaussians) -> Tensor:
    """Return the logarithm of the weighted mean of exp(exponents) over the last axis."""
    count = len(mixture.weights)
    with np.errstate(divide="ignore"):
        log_weights = np.maximum(np.log(mixture.weights), -1e4).astype(np.float32)
    weighted = exponents + f.constant(log_weights)
    largest = f.largest(weighted)
    sums = f.matmul(f.exp(weighted - largest), f.constant(np.ones((count, 1), np.float32)))
    return f.sum(largest + f.log(sums, 1), 1)


def _squared_distances(f: Algebra, latents: Tensor, mixture: MixtureOfGaussians) -> Tensor:
    """Return squared distances in standard deviations of latents (..., D) to every component, (..., M).

    Multiplied out they are matrix products, in float64, because nearly equal numbers cancel.
    """
    means, precisions = (
        f.doubled(f.constant(mixture.means)),
        f.doubled(f.constant(np.exp(-mixture.log_variances))),
    )
    rows = f.doubled(latents)
    weighted = means * precisions
    cross = f.matmul(rows, f.transpose(weighted, (1, 0)))
    ones = f.doubled(f.constant(np.ones((1, mixture.means.shape[1]), np.float32)))
    own = f.matmul(ones, f.transpose(means * weighted, (1, 0)))
    squares = f.matmul(rows * rows, f.transpose(precisions, (1, 0))) - (cross + cross) + own
    return f.singled(squares)
