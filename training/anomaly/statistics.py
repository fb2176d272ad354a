"""What an item's own way through a VAE says of it, without noise: two anomaly scores and a map.

Shapes: B rows, D latent dimensions, N held-out items; items (B, *item).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from service.format.manifest import NoiseFree
from training.models.likelihoods import item_sum
from training.models.priors import prior_kl
from training.models.vae import Vae

FEATURES = ("residual", "mean", "scale", "surprise", "kl")
"""What `path` sees of an item: the norms of its reconstruction's error, of the posterior mean and of its
standard deviations; and, in nats, its surprise at the posterior mean and its KL. The first three are those of
Huang et al. 2024, arXiv:2401.04933; the surprise knows the decoder's scale, the fourth there, and more."""
FITTED: NoiseFree = "path"
"""The statistic that is fitted, on items that nothing else may be judged by."""
_ROWS = 250
_LEAST_SPREAD = 0.01
"""Of a feature over 1 + its mean: a narrower one counts as that wide, or float32's last digits would tell."""
_LEAST_VARIANCE = 1e-3
"""Of a direction of standardised features, for the same reason."""


class _Way(NamedTuple):
    """What becomes of items."""

    mean: Tensor
    """(B, D), the posterior's."""
    log_variance: Tensor
    """(B, D), the posterior's."""
    residual: Tensor
    """(B, *item): items less their reconstructions."""
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
        """(B,), in standard deviations; over the items it was fitted on its mean square is F."""
        whitened = (features - self.centre) @ self.whitening.T
        return torch.sqrt(item_sum(whitened * whitened))


@dataclass(frozen=True)
class VaeStatistics:
    """The noise-free anomaly statistics of a VAE."""

    names: tuple[NoiseFree, ...]
    """The columns, in order: `corrected` only where a perfect reconstruction has a likelihood."""
    path: PathDistance

    def __call__(self, vae: Vae, items: Tensor) -> Tensor:
        """The columns for items (B, *item), each higher = more anomalous: (B, S)."""
        way = _way(vae, items)
        kl = _kl(vae, way)
        columns: dict[NoiseFree, Callable[[], Tensor]] = {
            "corrected": lambda: way.total_surprise + kl,
            "path": lambda: self.path(_features(way, kl)),
        }
        return torch.stack([columns[name]() for name in self.names], dim=1)


def fit_statistics(vae: Vae, items: Tensor) -> VaeStatistics:
    """The statistics of a trained VAE, with the Mahalanobis distance from items (N, *item) held out."""
    with torch.no_grad():
        features = torch.cat([path_features(vae, batch) for batch in torch.split(items, _ROWS)])
        best = vae.likelihood.best_log_prob(items[:1])
    return VaeStatistics(("path",) if best is None else ("corrected", "path"), fit_path(features))


def fit_path(features: Tensor) -> PathDistance:
    """The Mahalanobis distance from features (N, F), N > F.

    A feature that hardly varies, or one that nearly follows from the others, counts as varying a little.
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
    """The `FEATURES` of items (B, *item): (B, F)."""
    way = _way(vae, items)
    return _features(way, _kl(vae, way))


def surprise_map(vae: Vae, items: Tensor) -> Tensor:
    """How surprising each value of items (B, *item) is at the posterior mean, in nats, shaped like them.

    Minus its log-likelihood, less that of a perfect reconstruction where there is such a thing.
    """
    return _way(vae, items).surprise


def _way(vae: Vae, items: Tensor) -> _Way:
    mean, log_variance = vae.encode(items)
    parameters, likelihood = vae.decode(mean), vae.likelihood
    surprise = -likelihood.value_log_prob(parameters, items)
    best = likelihood.best_log_prob(items)
    surprise = surprise if best is None else best + surprise
    return _Way(mean, log_variance, likelihood.residual(parameters, items), surprise)


def _kl(vae: Vae, way: _Way) -> Tensor:
    return prior_kl(way.mean, way.log_variance, vae.components())


def _features(way: _Way, kl: Tensor) -> Tensor:
    norms = (way.residual.flatten(1), way.mean, torch.exp(0.5 * way.log_variance))
    lengths = [torch.sqrt(item_sum(each * each)) for each in norms]
    return torch.stack([*lengths, way.total_surprise, kl], dim=1)
