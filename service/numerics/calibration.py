"""Scores: bounds from the terms of the graph `score`, and p-values and thresholds from a calibration.

Training calibrates with these functions and the service scores with them.
Shapes: B rows, K draws. Everything is in nats per item and computed in float64.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import ROUND_CEILING, Decimal
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from service.format.columns import column_places
from service.numerics.noise import Doubles

if TYPE_CHECKING:
    from service.format.columns import Column
    from service.format.statistics import Bound

Correction = Literal["none", "benjamini-hochberg"]
"""The correction for testing many items in one request."""

_HIGH: Final = 0.95
"""The quantile whose distance from the median is the spread of a column's surprises, at least a nat."""
_LEAST_EFFECTIVE_DRAWS: Final = 10
"""Fewer effective draws than this, or than a tenth of all, do not show how far an importance-weighted bound
may be off: under published models it then had up to six times the error that they gave."""
_SLACK: Final = 1e-9
"""Added before rounding down, so that alpha = k / (n + 1) written in decimals counts as exactly that."""


class Bounds(NamedTuple):
    """Lower bounds on log p(x) and their parts, each (B,) float64, in nats.

    elbo = expected_log_likelihood - kl. `standard_error` is the Monte Carlo error of the elbo (and of the
    expected log-likelihood, where the kl is exact), NaN for a single draw.
    `importance_bound_standard_error` is that of the importance bound, NaN where its draws do not show it.
    `effective_draws` (1 to K) are the equally weighted draws that would be worth as much.
    """

    elbo: Doubles
    standard_error: Doubles
    expected_log_likelihood: Doubles
    kl: Doubles
    importance_bound: Doubles
    importance_bound_standard_error: Doubles
    effective_draws: Doubles


def bounds_from_terms(
    log_likelihood: NDArray[Any],
    log_prior: NDArray[Any],
    log_posterior: NDArray[Any],
    kl: NDArray[Any],
    *,
    analytic_kl: bool = True,
) -> Bounds:
    """Return the bounds of B rows from the terms of their K draws.

    log p(x) >= log (1/K) sum_k p(x|z_k) p(z_k) / q(z_k|x) >= E_q[log p(x|z)] - KL(q || p), both in
    expectation (Jensen). Sources: Kingma and Welling 2014, arXiv:1312.6114, equation 3; Burda et al.
    2016, arXiv:1509.00519, equation 8. Effective draws: (sum w)^2 / sum w^2 of the weights w (Kong 1992, "A
    note on importance sampling using standardized weights"). The error of the logarithm of their mean is
    that of the mean over the mean (the delta method).

    Args:
        log_likelihood: (B, K) log p(x|z_k).
        log_prior: (B, K) log p(z_k).
        log_posterior: (B, K) log q(z_k|x).
        kl: (B,) KL(q(z|x) || p(z)), exact, or the mean of log q(z_k|x) - log p(z_k) over the same draws.
        analytic_kl: True if kl is exact. If not, its error is part of the elbo's, and depends on the
            likelihood's error, because both come from the same draws.
    """
    likelihood, divergence = log_likelihood.astype(np.float64), kl.astype(np.float64)
    rows, draws = likelihood.shape
    expected = likelihood.mean(axis=1)
    log_weights = likelihood + log_prior.astype(np.float64) - log_posterior.astype(np.float64)
    error = np.full(rows, np.nan)
    if draws > 1:
        error = (likelihood if analytic_kl else log_weights).std(axis=1, ddof=1) / math.sqrt(draws)
    largest = log_weights.max(axis=1, keepdims=True)  # taken out, so that no exponential overflows
    weights = np.exp(log_weights - largest)
    sums = weights.sum(axis=1)
    importance_bound = largest[:, 0] + np.log(sums) - math.log(draws)
    effective = np.clip(sums**2 / np.square(weights).sum(axis=1), 1, draws)  # as it is but for rounding
    importance_error = np.sqrt((draws / effective - 1) / max(draws - 1, 1))
    importance_error[effective < max(_LEAST_EFFECTIVE_DRAWS, draws / 10)] = np.nan
    return Bounds(
        expected - divergence, error, expected, divergence, importance_bound, importance_error, effective
    )


def surprise(bounds: Bounds, statistic: Bound) -> Doubles:
    """Return the negative of the chosen bound: (B,) nats, higher = more anomalous."""
    return -(bounds.elbo if statistic == "elbo" else bounds.importance_bound)


def distance_from_uniform(p_values: Sequence[float]) -> float:
    """Return Kolmogorov's distance between the distribution of p-values (n,) and the uniform one.

    For uniform p-values it exceeds 1.36 / sqrt(n) one time in twenty. Source: Kolmogorov 1933, "Sulla
    determinazione empirica di una legge di distribuzione".
    """
    ascending, n = np.sort(np.asarray(p_values, np.float64)), len(p_values)
    steps = np.arange(n + 1) / n
    return float(np.maximum(ascending - steps[:-1], steps[1:] - ascending).max())


def false_discovery_level(p_values: Doubles, alpha: float) -> float:
    """Return the level for p-values (B,) that keeps the false discovery rate at or below alpha.

    On average, at most that share of the flagged items is ordinary; 0 if no item is to be flagged. Source:
    Benjamini and Hochberg 1995, J. R. Stat. Soc. B 57(1), section 3.1; for p-values of one calibration set:
    Bates et al. 2023, Annals of Statistics 51(1), theorem 2.
    """
    ascending = np.sort(p_values)
    levels = alpha * np.arange(1, len(p_values) + 1) / len(p_values)
    passing = np.flatnonzero(ascending <= levels + _SLACK)
    # a rounded level may lie a little below the p-value that passes it
    return float(max(levels[passing[-1]], ascending[passing[-1]])) if len(passing) else 0.0


def column_surprises(found: NDArray[Any], items: NDArray[Any], columns: Sequence[Column]) -> Doubles:
    """Return the surprises (B, C) that the graph `columns` found in items (B, F), NaN for missing values."""
    first = [place.start for _, place in column_places(columns)]
    surprises: Doubles = np.where(np.isnan(items[:, first]), np.nan, found.astype(np.float64))
    return surprises


def least_level(n: int) -> str:
    """Return 1 / (n + 1), the least level that n calibration items resolve, rounded up to six digits."""
    unit = Decimal(1).scaleb(Decimal(1 / (n + 1)).adjusted() - 5)
    return f"{float((Decimal(1) / (n + 1)).quantize(unit, ROUND_CEILING)):g}"


class ColumnCalibration:
    """The surprises of each column of held-out rows, among which those of new rows are ranked.

    Each column's p-value is conformal by itself: P(p_value <= alpha) <= alpha for a row exchangeable with the
    calibration rows (Vovk et al. 2005).
    """

    def __init__(self, surprises: Sequence[Doubles]) -> None:
        """Take the surprises of each column, (n,) with its own n, in any order."""
        self._ascending = [np.sort(values.astype(np.float64)) for values in surprises]
        known = [values if len(values) else np.zeros(1) for values in self._ascending]
        self._median = np.array([np.median(values) for values in known])
        self._spread = np.array([np.quantile(values, _HIGH) for values in known]) - self._median
        self._least = np.array([1.0 / (len(values) + 1) for values in self._ascending])

    def p_values(self, surprises: Doubles) -> Doubles:
        """Return the p-values of columns of rows, (B, C), NaN for missing values.

        Each is (1 + #{held-out values at least as surprising}) / (n + 1) with the column's own n. Of columns
        of one row that all have their least p-value, only the most surprising keeps it (by the distance from
        the median over that of the 95 % quantile); the others get the next, 2 / (n + 1): a p-value may grow
        and stays one, and the least names one column.
        """
        p_values = np.full(surprises.shape, np.nan)
        for column, known in enumerate(self._ascending):
            at_least = len(known) - np.searchsorted(known, surprises[:, column], side="left")
            p_values[:, column] = (1.0 + at_least) / (len(known) + 1)
        p_values[np.isnan(surprises)] = np.nan
        least = (p_values <= self._least) & (self._least < 1)  # a column of no held-out values names nothing
        oddness = np.where(least, (surprises - self._median) / np.maximum(self._spread, 1.0), -np.inf)
        others = least & (np.arange(surprises.shape[1]) != oddness.argmax(axis=1)[:, None])
        changed: Doubles = np.where(others, np.minimum(2 * self._least, 1.0), p_values)
        return changed


class Calibration:
    """The surprises of n held-out items, among which new ones are ranked.

    Conformal p-values (Vovk et al. 2005; Bates et al. 2023, Annals of Statistics 51(1)): for an item
    exchangeable with the calibration items, P(p_value <= alpha) <= alpha.
    """

    def __init__(self, surprises: NDArray[Any]) -> None:
        """Take the (n,) surprises in any order, n >= 1."""
        self._ascending: Doubles = np.sort(surprises.astype(np.float64))

    @property
    def items(self) -> int:
        """Return n."""
        return len(self._ascending)

    @property
    def smallest_alpha(self) -> float:
        """Return the smallest level at which an item can be flagged: 1 / (n + 1)."""
        return 1.0 / (self.items + 1)

    def quantiles(self) -> Doubles:
        """Return the surprises that 0, 1, ... 100 per cent of the calibration items do not exceed, (101,)."""
        return np.quantile(self._ascending, np.linspace(0, 1, 101))

    def p_values(self, surprises: Doubles) -> Doubles:
        """Return (1 + #{calibration items at least as surprising}) / (n + 1), (B,)."""
        n = len(self._ascending)
        at_least = n - np.searchsorted(self._ascending, surprises, side="left")
        return (1.0 + at_least) / (n + 1)

    def threshold(self, alpha: float) -> float:
        """Return the surprise strictly above which an item's p-value is at most alpha, in nats.

        Raises:
            ValueError: alpha is below 1 / (n + 1), the smallest p-value.
        """
        n = len(self._ascending)
        allowed = math.floor(alpha * (n + 1) + _SLACK) - 1
        if allowed < 0:
            least = least_level(n)
            raise ValueError(f"alpha is {alpha:.9g}; with {n} calibration items it is at least {least}")
        return float(self._ascending[n - 1 - min(allowed, n - 1)])
