"""Noise-free anomaly statistics of a VAE, from one pass of an item through it, and the surprise map.

Shapes: B rows, D latent dimensions, N held-out items; items (B, *item).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from service.format.statistics import NoiseFree
from training.anomaly.kernel import KernelDensity
from training.anomaly.path import fit_whitening
from training.data import Labels
from training.data.batches import rows_at_once
from training.models.conditions import in_batches
from training.models.likelihoods import item_sum
from training.models.priors import prior_kl
from training.models.vae import Vae

_ROWS = 250


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
    kernel: KernelDensity | None = None
    """The kernel density of a table's training rows, for `kernel_density`."""

    def __call__(self, vae: Vae, items: Tensor) -> Tensor:
        """Return the columns for items (B, *item), (B, S); higher means more anomalous."""
        passed = _forward(vae, items)
        kl = _kl(vae, passed)
        columns = [passed.total_surprise + kl] if "corrected" in self.names else []
        columns.append(self.path(_features(passed, kl)))
        if self.kernel is not None:
            columns.append(self.kernel(items))
        return torch.stack(columns, dim=1)


def fit_statistics(
    vae: Vae, items: Tensor, kernel: KernelDensity | None = None, labels: Labels | None = None
) -> VaeStatistics:
    """Fit the statistics of a trained VAE on held-out items (N, *item); a kernel density comes fitted.

    `labels` (N,) are the classes of the items, if they are a condition.
    """
    labels = np.zeros(len(items), np.int64) if labels is None else labels
    with torch.no_grad():
        batches = in_batches(vae, labels, rows_at_once(_ROWS, math.prod(items.shape[1:])))
        features = torch.cat([path_features(model, items[rows]) for model, rows in batches])
        best = vae.likelihood.best_log_prob(items[:1])
    names: tuple[NoiseFree, ...] = ("path",) if best is None else ("corrected", "path")
    if kernel is not None:
        names = (*names, "kernel_density")
    return VaeStatistics(names, fit_path(features), kernel)


def fit_path(features: Tensor) -> PathDistance:
    """Fit the Mahalanobis distance from features (N, F), N > F."""
    fitted = fit_whitening(features.double().numpy())
    centre, matrix = (torch.from_numpy(array).to(features.dtype) for array in fitted)
    return PathDistance(centre, matrix)


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
