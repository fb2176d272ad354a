"""Platt scaling: turns a discriminator's logits into log density ratios, and measures their calibration.

All figures refer to the even mixture of real and generated items, whatever the numbers of rows: each class
counts half. Shapes: N real rows, M generated rows; logits (N,) and (M,), in nats. Use rows that the
discriminator was not trained on, and measure a fit on other rows than it was fitted on. All functions raise
ValueError if a class has no rows or a logit is not finite.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np

from service.format.specs import LogitsSpec, Metric
from service.format.versions import sha256_of
from service.numerics.noise import Doubles, Floats, Integers
from training.metrics.distances import Estimate

if TYPE_CHECKING:
    from torch import Tensor


Logits: TypeAlias = "Tensor | Floats"
"""Logits as a tensor or an array."""


class Platt(NamedTuple):
    """A discriminator's calibration: logit -> slope * logit + intercept."""

    slope: float
    """Not negative; 0 if the discriminator is no better than chance."""
    intercept: float
    """Nats."""

    def __call__(self, logits: Tensor) -> Tensor:
        """Return estimates of log p_data(x) / p_G(x) for logits of any shape, with their dtype; nats."""
        return self.slope * logits + self.intercept


class ReliabilityRow(NamedTuple):
    """One bin of a reliability diagram."""

    predicted: float
    """Mean predicted probability of being real."""
    observed: float
    """Share of real items."""
    rows: int
    """The number of rows of both classes in the bin."""
    mass: float
    """The bin's share of the even mixture."""


def fit_platt(real_logits: Logits, fake_logits: Logits) -> Platt:
    """Fit slope >= 0 and intercept by maximum likelihood, with logistic regression.

    A class of N rows has the target (N + 1) / (N + 2) instead of 1, so that the fit is finite even if the
    logits separate all rows. A discriminator that is worse than chance gets slope and intercept 0, which is
    the maximum under slope >= 0. Source: Platt 1999, "Probabilistic outputs for support vector machines",
    sections 2.1 and 2.2; for GANs: Turner et al. 2019, "MH-GAN", arXiv:1811.11357, section 3.1.
    """
    from sklearn.linear_model import LogisticRegression  # takes seconds to import

    logits, labels, weights = _even_mixture(real_logits, fake_logits)
    centre, spread = logits.mean(), logits.std()
    if np.ptp(logits) == 0:
        return Platt(0.0, 0.0)
    targets = 1 - 1 / (2 + np.where(labels == 1, len(real_logits), len(fake_logits)))
    model = LogisticRegression(C=np.inf, solver="newton-cholesky", tol=1e-8)
    model.fit(
        np.tile((logits - centre) / spread, 2)[:, None],
        np.concatenate([labels, 1 - labels]),
        np.concatenate([weights * targets, weights * (1 - targets)]),
    )
    slope = float(model.coef_[0, 0] / spread)
    return Platt(slope, float(model.intercept_[0] - slope * centre)) if slope > 0 else Platt(0.0, 0.0)


def reliability(real_logits: Logits, fake_logits: Logits, bins: int = 10) -> list[ReliabilityRow]:
    """Compare predicted probabilities with observed shares in equal bins of probability; skip empty bins."""
    logits, labels, weights = _even_mixture(real_logits, fake_logits)
    probabilities = _sigmoid(logits)
    places = np.minimum((probabilities * bins).astype(int), bins - 1)
    masses, predicted, observed = (
        np.bincount(places, weights * each, bins) for each in (np.ones_like(labels), probabilities, labels)
    )
    counts = np.bincount(places, minlength=bins)
    return [
        ReliabilityRow(
            float(predicted[place] / masses[place]),
            float(observed[place] / masses[place]),
            int(counts[place]),
            float(masses[place]),
        )
        for place in np.flatnonzero(counts)
    ]


def expected_calibration_error(real_logits: Logits, fake_logits: Logits, bins: int = 10) -> float:
    """Return the expected calibration error: the mean |predicted - observed| over the bins, by their masses.

    Source: Naeini et al. 2015, "Obtaining well calibrated probabilities using Bayesian binning", section 3.
    """
    rows = reliability(real_logits, fake_logits, bins)
    return sum(row.mass * abs(row.predicted - row.observed) for row in rows)


def calibration_z(real_logits: Logits, fake_logits: Logits) -> float:
    """Return Z = sum(y - D) / sqrt(sum D (1 - D)), each class counting half: beyond ±2, D is not calibrated.

    If D is calibrated and the labels are drawn with even odds, the plain sum is standard normal. That each
    class counts exactly half makes the variance of Z smaller, never larger. Source: Turner et al. 2019,
    arXiv:1811.11357, section 3.1.
    """
    logits, labels, weights = _even_mixture(real_logits, fake_logits)
    probabilities = _sigmoid(logits)
    variance = np.square(weights) @ (probabilities * _sigmoid(-logits))
    return float(weights @ (labels - probabilities)) / math.sqrt(variance)


def jsd_bound(real_logits: Logits, fake_logits: Logits) -> Estimate:
    """Return log 2 + V(G, D) / 2 <= JSD(data || generator), nats, for any D not trained on these items.

    Source: Goodfellow et al. 2014, arXiv:1406.2661, theorem 1, V(G, D*) = -2 log 2 + 2 JSD with D* the
    maximiser.
    """
    logits, labels, weights = _even_mixture(real_logits, fake_logits)
    terms = -np.logaddexp(0, np.where(labels == 1, -logits, logits))  # log D(x) and log(1 - D(G(z)))
    variance = sum(terms[labels == kind].var(ddof=1) / (labels == kind).sum() for kind in (0, 1))
    return Estimate(math.log(2) + float(weights @ terms), 0.5 * math.sqrt(variance))


def calibration_metrics(real_logits: Logits, fake_logits: Logits, note: str) -> dict[str, Metric]:
    """Return the figures of calibrated logits; `note` says of which items, and how they were calibrated."""
    bound = jsd_bound(real_logits, fake_logits)
    return {
        "jsd_lower_bound": Metric(
            value=bound.value,
            standard_error=bound.standard_error,
            unit="nats",
            note="log 2 + V(G, D) / 2 <= JSD(data || generator), log 2 = 0.693 at most, with the "
            "calibrated discriminator; a weak one makes it loose",
        ),
        "calibration_error": Metric(
            value=expected_calibration_error(real_logits, fake_logits),
            unit="probability",
            note=f"mean distance of D(x) from the observed share in ten bins, {note}",
        ),
        "calibration_z": Metric(
            value=calibration_z(real_logits, fake_logits),
            unit="standard deviations",
            note="sum(y - D) / sqrt(sum D (1 - D)) of the same items; beyond 2 it is not calibrated",
        ),
    }


def write_logits(
    path: Path, real_logits: Floats, largest: float, labels: Integers | None = None
) -> LogitsSpec:
    """Write the data of filtered sampling: calibrated logits of real items, which chains start from.

    `largest` is that of generated items, and bounds the density ratio; `labels` (N,) are the classes of the
    real items, with a class condition.
    """
    of_classes = {} if labels is None else {"labels": labels.astype(np.int64)}
    np.savez(path, allow_pickle=False, real=real_logits.astype(np.float32), **of_classes)
    return LogitsSpec(file=path.name, sha256=sha256_of(path), n=len(real_logits), largest=largest)


def _even_mixture(real_logits: Logits, fake_logits: Logits) -> tuple[Doubles, Doubles, Doubles]:
    """Return the logits of all rows, their labels (1 if real), and weights that sum to 1/2 in each class."""
    real, fake = (
        np.asarray(logits if isinstance(logits, np.ndarray) else logits.detach().cpu(), np.float64)
        for logits in (real_logits, fake_logits)
    )
    if not (len(real) and len(fake)):
        raise ValueError(
            f"calibration needs both classes; got {len(real)} real and {len(fake)} generated rows"
        )
    logits = np.concatenate([real, fake])
    if not np.isfinite(logits).all():
        raise ValueError(f"calibration needs finite logits; {(~np.isfinite(logits)).sum()} are not")
    rows = [len(real), len(fake)]
    return logits, np.repeat([1.0, 0.0], rows), np.repeat([0.5 / len(real), 0.5 / len(fake)], rows)


def _sigmoid(logits: Doubles) -> Doubles:
    return np.exp(-np.logaddexp(0, -logits))
