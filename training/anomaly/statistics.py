"""Noise-free anomaly statistics of a VAE, from one pass of an item through it, and the surprise map.

Shapes: B rows, D latent dimensions, N held-out items; items (B, *item).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from service.format.manifest import NoiseFree
from training.models.likelihoods import item_sum
from training.models.priors import prior_kl
from training.models.vae import Vae

FEATURES = ("residual", "mean", "scale", "surprise", "kl")
"""The features of `path`: the norms of the reconstruction error, of the posterior mean and of its standard
deviations; and, in nats, the surprise at the posterior mean and the KL. The first three are those of Huang et
al. 2024, arXiv:2401.04933; the surprise replaces their fourth, the decoder's scale."""
FITTED: NoiseFree = "path"
"""The statistic that is fitted, on items that must not be used to compare statistics."""
_ROWS = 250
_LEAST_SPREAD = 0.01
"""The least standard deviation of a feature over 1 + |mean|: below it, rounding of float32 would dominate."""
_LEAST_VARIANCE = 1e-3
"""The least variance along any direction of standardised features, for the same reason."""


class _ForwardPass(NamedTuple):
    """The result of one pass of items through a VAE."""

    mean: Tensor
    """(B, D), the posterior's."""
    log_variance: Tensor
    """(B, D), the posterior's."""
    residual: Tensor
    """(B, *item): items minus their reconstructions."""
    surprise: Tensor
    """(B, *item) nats."""

    @property
    def total_surprise(self) -> Tensor:
        """(B,) nats."""
        return item_sum(self.surprise.flatten(1))


@dataclass(frozen=True)
class PathDistance:
    """The Mahalanobis distance of features (B, F) from those of held-out items."""

    centre: Tensor
    """(F,), their mean."""
    whitening: Tensor
    """(F, F), the inverse of the lower Cholesky factor of their covariance."""

    def __call__(self, features: Tensor) -> Tensor:
        """Return distances (B,) in standard deviations; over the fitted items their mean square is F."""
        whitened = (features - self.centre) @ self.whitening.T
        return torch.sqrt(item_sum(whitened * whitened))


@dataclass(frozen=True)
class VaeStatistics:
    """The noise-free anomaly statistics of a VAE."""

    names: tuple[NoiseFree, ...]
    """The columns, in order; `corrected` only if a perfect reconstruction has a likelihood."""
    path: PathDistance

    def __call__(self, vae: Vae, items: Tensor) -> Tensor:
        """Return the columns for items (B, *item), (B, S); higher means more anomalous."""
        passed = _forward(vae, items)
        kl = _kl(vae, passed)
        columns = [passed.total_surprise + kl] if "corrected" in self.names else []
        return torch.stack([*columns, self.path(_features(passed, kl))], dim=1)


def fit_statistics(vae: Vae, items: Tensor) -> VaeStatistics:
    """Fit the statistics of a trained VAE on held-out items (N, *item)."""
    with torch.no_grad():
        features = torch.cat([path_features(vae, batch) for batch in torch.split(items, _ROWS)])
        best = vae.likelihood.best_log_prob(items[:1])
    return VaeStatistics(("path",) if best is None else ("corrected", "path"), fit_path(features))


def fit_path(features: Tensor) -> PathDistance:
    """Fit the Mahalanobis distance from features (N, F), N > F.

    A feature that hardly varies, or nearly follows from the others, is given a small variance.
    """
    rows = features.double()
    centre = rows.mean(0)
    spread = torch.maximum(rows.std(0, correction=0), _LEAST_SPREAD * (1 + centre.abs()))
    standardised = (rows - centre) / spread
    correlation = standardised.T @ standardised / len(rows)
    missing = (_LEAST_VARIANCE - torch.linalg.eigvalsh(correlation)[0]).clamp(min=0)
    factor = torch.linalg.cholesky(correlation + missing * torch.eye(len(centre)))
    return PathDistance(centre.to(features.dtype), (torch.linalg.inv(factor) / spread).to(features.dtype))


def path_features(vae: Vae, items: Tensor) -> Tensor:
    """Return the `FEATURES` of items (B, *item), (B, F)."""
    passed = _forward(vae, items)
    return _features(passed, _kl(vae, passed))


def surprise_map(vae: Vae, items: Tensor) -> Tensor:
    """Return the surprise of each value of items (B, *item) at the posterior mean, in nats, shaped like them.

    This is minus its log-likelihood, relative to that of a perfect reconstruction if that is finite.
    """
    return _forward(vae, items).surprise


def _forward(vae: Vae, items: Tensor) -> _ForwardPass:
    mean, log_variance = vae.encode(items)
    parameters, likelihood = vae.decode(mean), vae.likelihood
    surprise = -likelihood.value_log_prob(parameters, items)
    best = likelihood.best_log_prob(items)
    surprise = surprise if best is None else best + surprise
    return _ForwardPass(mean, log_variance, likelihood.residual(parameters, items), surprise)


def _kl(vae: Vae, passed: _ForwardPass) -> Tensor:
    return prior_kl(passed.mean, passed.log_variance, vae.components())


def _features(passed: _ForwardPass, kl: Tensor) -> Tensor:
    norms = (passed.residual.flatten(1), passed.mean, torch.exp(0.5 * passed.log_variance))
    lengths = [torch.sqrt(item_sum(each * each)) for each in norms]
    return torch.stack([*lengths, passed.total_surprise, kl], dim=1)
