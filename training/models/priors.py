"""Priors p(z): of a VAE the standard normal, a learned mixture or a VampPrior; of a GAN a learned mixture.

Shapes: D latent dimensions, M components; latents (..., D).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from service.format.manifest import Support
from training.models.likelihoods import in_lanes, item_sum

LOG_TWO_PI = math.log(2 * math.pi)
_START_SPREAD = 0.5
"""Standard deviation of the means of a mixture before training."""
_INSIDE = 0.05
"""Distance from 0 and 1 at which pseudo-inputs of pictures begin; nearer, a sigmoid hardly moves."""


class Gaussians(NamedTuple):
    """M diagonal Gaussians of equal weight."""

    means: Tensor
    """(M, D)."""
    log_variances: Tensor
    """(M, D)."""


class VampPrior(nn.Module):
    """The mixture of the posteriors of M learned pseudo-inputs, with equal weights.

    Source: Tomczak & Welling 2018, "VAE with a VampPrior", arXiv:1705.07120, equation 9.
    """

    def __init__(self, items: Tensor, support: Support, shift: Tensor, scale: Tensor) -> None:
        """Begin with M training items (M, *item); tables are learned in standardised units."""
        super().__init__()
        self._unit_interval = support != "real"
        self.register_buffer("shift", shift.clone())
        self.register_buffer("scale", scale.clone())
        start = _INSIDE + (1 - 2 * _INSIDE) * items
        self.pseudo = nn.Parameter(torch.logit(start) if self._unit_interval else (items - shift) / scale)

    shift: Tensor
    scale: Tensor

    def gaussians(self, encode: Callable[[Tensor], tuple[Tensor, Tensor]]) -> Gaussians:
        """Return the posteriors of the pseudo-inputs under the current encoder."""
        if self._unit_interval:
            return Gaussians(*encode(torch.sigmoid(self.pseudo)))
        return Gaussians(*encode(self.pseudo * self.scale + self.shift))


class GaussianMixture(nn.Module):
    """A mixture of M Gaussians of equal weight, with learned means and variances; fixed once published."""

    def __init__(self, gaussians: Gaussians) -> None:
        super().__init__()
        self.means = nn.Parameter(gaussians.means.detach().clone())
        self.log_variances = nn.Parameter(gaussians.log_variances.detach().clone())

    def gaussians(self, _encode: Callable[[Tensor], tuple[Tensor, Tensor]]) -> Gaussians:
        """Return the components; the encoder is not used."""
        return Gaussians(self.means, self.log_variances)


def random_mixture(components: int, latent: int) -> GaussianMixture:
    """Make a mixture to begin training with, about as wide as N(0, I)."""
    return GaussianMixture(
        Gaussians(
            _START_SPREAD * torch.randn(components, latent),
            torch.full((components, latent), math.log(1 - _START_SPREAD**2)),
        )
    )


def prior_log_prob(latents: Tensor, gaussians: Gaussians | None) -> Tensor:
    """Return log p(z) in nats of latents (B, K, D), (B, K), under the mixture, or N(0, I) if it is None."""
    if gaussians is None:
        return -0.5 * item_sum(latents * latents + LOG_TWO_PI)
    squares = _squared_distances(latents, gaussians)
    return log_mean_exp(-0.5 * (squares + item_sum(gaussians.log_variances + LOG_TWO_PI)))


def prior_kl(mean: Tensor, log_variance: Tensor, gaussians: Gaussians | None) -> Tensor:
    """Return KL(q || p) in nats, (B,), of q = N(mean, exp(log_variance)), each (B, D).

    Without a mixture p is N(0, I). The KL to a mixture has no closed form; the result is then -log of the
    mean of exp(-KL(q || p_m)) over its Gaussians p_m, which is at least KL(q || p) and equals it for a single
    Gaussian. It needs no draws. Source: Hershey & Olsen 2007, "Approximating the Kullback Leibler divergence
    between Gaussian mixture models", ICASSP, section 8 (the variational upper bound, of a q with one
    component).
    """
    if gaussians is None:
        return item_sum(gaussian_kl(mean, log_variance))
    squares = _squared_distances(mean.unsqueeze(1), gaussians).squeeze(1)
    spreads = torch.exp(log_variance) @ torch.exp(-gaussians.log_variances).T
    cross_entropies = 0.5 * (squares + spreads + item_sum(gaussians.log_variances))
    return -log_mean_exp(-cross_entropies) - 0.5 * item_sum(log_variance + 1)


def log_mean_exp(values: Tensor) -> Tensor:
    """Return the logarithm of the mean of exp(values) over the last axis."""
    largest = values.amax(-1, keepdim=True)
    sums = item_sum(torch.exp(values - largest))
    logs = in_lanes(torch.log, sums.reshape(-1, 1)).reshape(sums.shape)
    return largest.squeeze(-1) + logs - math.log(values.shape[-1])


class MixturePrior(nn.Module):
    """A GAN's prior: M Gaussians with one fixed standard deviation, whose means and weights are both learned.

    The means learn by backpropagation through the generator, the weights by plain REINFORCE (`surrogate`). A
    generator that maps N(0, I) to separate clusters leaves bridges between them; here a Gaussian between two
    clusters moves to one of them or loses its weight. Learned means: Gurumurthy et al. 2017, "DeLiGAN",
    arXiv:1706.02071, section 3; mixtures for separate modes: Xiao et al. 2018, "BourGAN", arXiv:1805.07674,
    section 3.
    """

    def __init__(self, count: int, latent: int, deviation: float, rate: float) -> None:
        """Begin with `count` means drawn from N(0, I), and equal weights.

        `deviation` is the standard deviation of every component; `rate` multiplies the learning rate of the
        logarithms of the weights.
        """
        super().__init__()
        self.means = nn.Parameter(torch.randn(count, latent))
        """(M, D)."""
        self.deviation = deviation
        self._rate = rate
        self.raw = nn.Parameter(torch.zeros(count))

    def log_weights(self) -> Tensor:
        """Return the logarithms of the weights, (M,) nats."""
        return torch.log_softmax(self._rate * self.raw, dim=0)

    def weight_kl(self) -> Tensor:
        """Return KL(even weights || weights) in nats, a scalar; unbounded as a weight vanishes."""
        log_weights = self.log_weights()
        return -log_weights.mean() - math.log(len(log_weights))

    def choose(self, uniforms: Tensor) -> Tensor:
        """Return the components, 0 .. M - 1, that uniforms in [0, 1), of any shape, select."""
        ends = torch.cumsum(self.log_weights().detach().double().exp(), 0)
        return torch.searchsorted(ends / ends[-1], uniforms.double(), right=True)

    def latents(self, normals: Tensor, components: Tensor) -> Tensor:
        """Return latents (N, D) of components (N,), from normals (N, D)."""
        return self.means[components] + self.deviation * normals

    def surrogate(self, losses: Tensor, components: Tensor) -> Tensor:
        """Return terms (B,) whose gradient is that of the expected loss with respect to the weights.

        Source: Williams 1992, "REINFORCE", section 4.

        Args:
            losses: (B,), without gradients, minus a constant baseline (the loss of an undecided
                discriminator), so that each row's term depends on that row alone.
            components: (B,), the component each row was drawn from.
        """
        return losses * self.log_weights()[components]


def _squared_distances(latents: Tensor, gaussians: Gaussians) -> Tensor:
    """Return squared distances in standard deviations of latents (B, K, D) to every component, (B, K, M).

    Multiplied out they are two products (B K, D) x (D, M), but nearly equal numbers cancel: in float32 a
    component with standard deviation 0.1 would be off by milli-nats, one with 0.01 by a nat.
    """
    M, D = gaussians.means.shape
    singles = [gaussians.means, torch.exp(-gaussians.log_variances), latents.new_ones(1, D)]
    # converted in one piece with the latents, because a graph must not hold constants in double
    doubles = torch.cat([*singles, latents.reshape(-1, D)]).double()
    means, precisions = doubles[:M], doubles[M : 2 * M]
    ones, rows = doubles[2 * M : 2 * M + 1], doubles[2 * M + 1 :]
    weighted = means * precisions
    cross = rows @ weighted.T
    squares = (rows * rows) @ precisions.T - (cross + cross) + ones @ (means * weighted).T
    return squares.to(latents.dtype).reshape(*latents.shape[:-1], M)


def prior_latents(components: Gaussians | None, normals: Tensor, uniforms: Tensor) -> Tensor:
    """Return latents (N, D) of the prior, from normals (N, D) and uniforms (N,) that select components."""
    if components is None:
        return normals
    chosen = (uniforms * len(components.means)).long()
    return components.means[chosen] + torch.exp(0.5 * components.log_variances[chosen]) * normals


def gaussian_log_prob(values: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """Return the log density in nats of diagonal Gaussians, summed over the last axis."""
    squares = (values - mean) ** 2 * torch.exp(-log_variance)
    return -0.5 * item_sum(squares + log_variance + LOG_TWO_PI)


def gaussian_kl(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Return KL(N(mean, exp(log_variance)) || N(0, I)) in nats per latent dimension, (B, D).

    Source: Kingma & Welling 2014, appendix B.
    """
    return 0.5 * (mean * mean + torch.exp(log_variance) - 1 - log_variance)
