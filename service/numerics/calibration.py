"""From the score graph's terms to bounds, and from bounds to p-values and thresholds.

Training calibrates with these functions and the service scores with them: one source for both.
Shapes: B rows, K draws. Everything is in nats per item and computed in float64.
"""

from __future__ import annotations

import math
from typing import Any, Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from service.format.manifest import Bound
from service.numerics.noise import Doubles

Correction = Literal["none", "benjamini-hochberg"]
"""How a request for many scores reckons with there being many."""

_SLACK: Final = 1e-9
"""Keeps alpha = k / (n + 1), written in decimals, on its own side of the floor."""


class Bounds(NamedTuple):
    """Lower bounds on log p(x) and their parts, each (B,) float64, in nats.

    elbo = expected_log_likelihood - kl. `standard_error` is the Monte Carlo error of the elbo (and of the
    expected log-likelihood, where the kl is exact), NaN for a single draw.
    """

    elbo: Doubles
    standard_error: Doubles
    expected_log_likelihood: Doubles
    kl: Doubles
    importance_bound: Doubles


def bounds_from_terms(
    log_likelihood: NDArray[Any],
    log_prior: NDArray[Any],
    log_posterior: NDArray[Any],
    kl: NDArray[Any],
    *,
    analytic_kl: bool = True,
) -> Bounds:
    """The bounds of B rows from the terms of their K draws.

    log p(x) >= log (1/K) sum_k p(x|z_k) p(z_k) / q(z_k|x) >= E_q[log p(x|z)] - KL(q || p), both in
    expectation (Jensen). Sources: Kingma and Welling 2014, arXiv:1312.6114, equation 3; Burda et al.
    2016, arXiv:1509.00519, equation 8.

    Args:
        log_likelihood: (B, K) log p(x|z_k).
        log_prior: (B, K) log p(z_k).
        log_posterior: (B, K) log q(z_k|x).
        kl: (B,) KL(q(z|x) || p(z)), exact, or the mean of log q(z_k|x) - log p(z_k) over the same draws.
        analytic_kl: Whether kl is exact. If it is not, its error is part of the elbo's, and is not
            independent of the likelihood's: both come from the same draws.
    """
    likelihood = log_likelihood.astype(np.float64)
    expected = likelihood.mean(axis=1)
    log_weights = likelihood + log_prior.astype(np.float64) - log_posterior.astype(np.float64)
    error = _error_of_mean(likelihood if analytic_kl else log_weights)
    divergence = kl.astype(np.float64)
    return Bounds(expected - divergence, error, expected, divergence, _log_mean_exp(log_weights))


def _error_of_mean(values: Doubles) -> Doubles:
    """The standard error of the mean of K draws, (B,) from (B, K); NaN for a single draw."""
    draws = values.shape[1]
    if draws == 1:
        return np.full(len(values), np.nan)
    error: Doubles = values.std(axis=1, ddof=1) / math.sqrt(draws)
    return error


def _log_mean_exp(values: Doubles) -> Doubles:
    largest: Doubles = values.max(axis=1, keepdims=True)
    sums: Doubles = np.exp(values - largest).sum(axis=1)
    log_mean: Doubles = largest[:, 0] + np.log(sums) - math.log(values.shape[1])
    return log_mean


def surprise(bounds: Bounds, statistic: Bound) -> Doubles:
    """The chosen statistic with its sign turned: (B,) nats, higher = more anomalous."""
    return -(bounds.elbo if statistic == "elbo" else bounds.importance_bound)


def false_discovery_level(p_values: Doubles, alpha: float) -> float:
    """The level to flag p-values (B,) at, so that of the flagged no more than alpha are ordinary, expectedly.

    0 if none is to be flagged. Source: Benjamini and Hochberg 1995, J. R. Stat. Soc. B 57(1), section 3.1;
    for p-values of one calibration set: Bates et al. 2023, Annals of Statistics 51(1), theorem 2.
    """
    levels = alpha * np.arange(1, len(p_values) + 1) / len(p_values)
    passing = np.flatnonzero(np.sort(p_values) <= levels + _SLACK)
    return float(levels[passing[-1]]) if len(passing) else 0.0


class Calibration:
    """The surprises of n held-out items, against which new ones are ranked.

    Conformal p-values (Vovk et al. 2005; Bates et al. 2023, Annals of Statistics 51(1)): for an item
    exchangeable with the calibration items, P(p_value <= alpha) <= alpha.
    """

    def __init__(self, surprises: NDArray[Any]) -> None:
        """Takes the (n,) surprises in any order, n >= 1."""
        self._ascending: Doubles = np.sort(surprises.astype(np.float64))

    @property
    def smallest_alpha(self) -> float:
        """The smallest level at which anything can be flagged: 1 / (n + 1)."""
        return 1.0 / (len(self._ascending) + 1)

    def p_values(self, surprises: Doubles) -> Doubles:
        """(1 + #{calibration items at least as surprising}) / (n + 1), (B,)."""
        n = len(self._ascending)
        at_least = n - np.searchsorted(self._ascending, surprises, side="left")
        return (1.0 + at_least) / (n + 1)

    def threshold(self, alpha: float) -> float:
        """The surprise above which, strictly, an item's p-value is at most alpha, in nats.

        Raises:
            ValueError: alpha is below 1 / (n + 1), where no p-value can be.
        """
        n = len(self._ascending)
        allowed = math.floor(alpha * (n + 1) + _SLACK) - 1
        if allowed < 0:
            raise ValueError(f"alpha is {alpha:g}; with {n} calibration items it is at least {1 / (n + 1):g}")
        return float(self._ascending[n - 1 - min(allowed, n - 1)])
