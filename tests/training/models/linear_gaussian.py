"""A VAE whose evidence and posterior are known exactly: z ~ N(0, I), x | z ~ N(W z, sigma^2 I)."""

import math

import torch
from torch import Tensor, nn
from torch.distributions import MultivariateNormal

from service.format.manifest import Support
from training.models.priors import GaussianMixture
from training.models.vae import LOG_VARIANCE_BOUND, Vae

WIDTH, LATENT, SIGMA = 6, 2, 0.7


class UnitNoise:
    """x | parameters ~ N(parameters, sigma^2 I)."""

    name = "gaussian"
    support: Support = "real"
    parameters_per_value = 1

    def bounded(self, outputs: Tensor) -> Tensor:
        return outputs

    def check_support(self, items: Tensor) -> None:
        pass

    def log_prob(self, parameters: Tensor, items: Tensor) -> Tensor:
        return self.value_log_prob(parameters, items).flatten(1).sum(1)

    def value_log_prob(self, parameters: Tensor, items: Tensor) -> Tensor:
        squares: Tensor = ((items - parameters) / SIGMA) ** 2
        log_density: Tensor = -0.5 * (squares + math.log(2 * math.pi * SIGMA**2))
        return log_density

    def best_log_prob(self, items: Tensor) -> Tensor:
        return self.value_log_prob(items, items)

    def residual(self, parameters: Tensor, items: Tensor) -> Tensor:
        return items - parameters

    def mean(self, parameters: Tensor) -> Tensor:
        return parameters

    def draw(self, parameters: Tensor, uniforms: Tensor) -> Tensor:
        draws: Tensor = parameters + SIGMA * torch.special.ndtri(uniforms)
        return draws


class PosteriorEncoder(nn.Module):
    """The exact posterior of orthogonal columns W, then made worse by `shift` and `log_scale`."""

    def __init__(self, weight: Tensor, shift: float, log_scale: float) -> None:
        super().__init__()
        precision = 1 + weight.square().sum(0) / SIGMA**2
        self.map = weight.T / SIGMA**2 / precision[:, None]
        self.log_variance = -precision.log() + log_scale
        self.shift = shift

    def forward(self, items: Tensor) -> Tensor:
        mean = items.flatten(1) @ self.map.T + self.shift
        # The model squashes its log-variance, so hand it the value before squashing.
        raw = LOG_VARIANCE_BOUND * torch.atanh(self.log_variance / LOG_VARIANCE_BOUND)
        return torch.cat([mean, raw.expand(len(items), -1)], 1)


class LinearDecoder(nn.Module):
    weight: Tensor

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.register_buffer("weight", weight)

    def forward(self, latents: Tensor) -> Tensor:
        means: Tensor = latents @ self.weight.T
        return means.reshape(-1, 1, 1, WIDTH)


def linear_gaussian(
    shift: float = 0.0, log_scale: float = 0.0, prior: GaussianMixture | None = None
) -> tuple[Vae, Tensor, Tensor]:
    """A VAE in float64, 50 items drawn from it under N(0, I), and their exact log evidence."""
    generator = torch.Generator().manual_seed(5)
    orthogonal, _ = torch.linalg.qr(torch.randn(WIDTH, LATENT, generator=generator, dtype=torch.float64))
    weight = orthogonal * torch.tensor([2.0, 0.5], dtype=torch.float64)
    latents = torch.randn(50, LATENT, generator=generator, dtype=torch.float64)
    noise = torch.randn(50, WIDTH, generator=generator, dtype=torch.float64)
    items = latents @ weight.T + SIGMA * noise
    encoder = PosteriorEncoder(weight, shift, log_scale)
    vae = Vae(encoder, LinearDecoder(weight), UnitNoise(), LATENT, prior)
    return vae, items.reshape(-1, 1, 1, WIDTH), _log_evidence(items, weight, prior)


def _log_evidence(items: Tensor, weight: Tensor, prior: GaussianMixture | None) -> Tensor:
    """Return log p(x): W pushes each Gaussian of the prior forward, and noise adds its variance."""
    means, variances = torch.zeros(1, LATENT).double(), torch.ones(1, LATENT).double()
    if prior is not None:
        means, variances = prior.means.detach(), prior.log_variances.detach().exp()
    pushed = [
        MultivariateNormal(  # type: ignore[no-untyped-call]
            weight @ mean, weight @ torch.diag(variance) @ weight.T + SIGMA**2 * torch.eye(WIDTH).double()
        ).log_prob(items)
        for mean, variance in zip(means, variances, strict=True)
    ]
    return torch.logsumexp(torch.stack(pushed), 0) - math.log(len(pushed))
