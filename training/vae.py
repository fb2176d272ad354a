"""The variational autoencoder: model, ELBO and importance-weighted bound, all in nats per item.

Shapes: B rows, D latent dimensions, K draws; items (B, C, H, W). Noise is always an argument.
Source: Kingma & Welling 2014, arXiv:1312.6114; Burda et al. 2016, arXiv:1509.00519.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from training.likelihoods import Likelihood, item_sum, make_likelihood
from training.networks import make_decoder, make_encoder
from training.recipe import Recipe, VaeOptions
from training.step import Noise, Phase, Terms

LOG_VARIANCE_BOUND = 10.0
"""The encoder's log-variance is squashed smoothly into (-10, 10): standard deviations of 0.0067 to 148."""


class Vae(nn.Module):
    """q(z | x) = N(mean, exp(log_variance)), p(z) = N(0, I), p(x | z) = likelihood(decoder(z))."""

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        likelihood: Likelihood,
        latent: int,
        logit_bound: float,
    ) -> None:
        """Join an encoder to 2 D outputs, a decoder from D latents to logits, and a likelihood."""
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.likelihood = likelihood
        self.latent = latent
        self._logit_bound = logit_bound

    def encode(self, items: Tensor) -> tuple[Tensor, Tensor]:
        """The posterior's mean and log-variance, each (B, D)."""
        outputs = self.encoder(items)
        mean, raw = outputs[:, : self.latent], outputs[:, self.latent :]
        return mean, LOG_VARIANCE_BOUND * torch.tanh(raw / LOG_VARIANCE_BOUND)

    def decode(self, latents: Tensor) -> Tensor:
        """The likelihood's parameters, (B, C, H, W), of latents (B, D)."""
        parameters: Tensor = self._logit_bound * torch.tanh(self.decoder(latents) / self._logit_bound)
        return parameters


class Elbo(NamedTuple):
    """The two terms of the bound, kept apart; the ELBO of a row is log_likelihood.mean(1) - kl."""

    log_likelihood: Tensor
    """(B, K) nats: log p(x | z_k)."""
    kl: Tensor
    """(B,) nats: KL(q(z | x) || p(z)), analytic."""


class ScoreTerms(NamedTuple):
    """All that both bounds need; the `score` graph returns exactly these."""

    log_likelihood: Tensor
    """(B, K) nats: log p(x | z_k)."""
    log_prior: Tensor
    """(B, K) nats: log p(z_k)."""
    log_posterior: Tensor
    """(B, K) nats: log q(z_k | x)."""
    kl: Tensor
    """(B,) nats: KL(q(z | x) || p(z)), analytic."""


def gaussian_kl(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mean, exp(log_variance)) || N(0, I)) in nats, (B,), of (B, D).

    Source: Kingma & Welling 2014, appendix B.
    """
    return 0.5 * item_sum(mean * mean + torch.exp(log_variance) - 1 - log_variance)


def gaussian_log_prob(values: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """Log density in nats of diagonal Gaussians, summed over the last axis."""
    squares = (values - mean) ** 2 * torch.exp(-log_variance)
    return -0.5 * item_sum(squares + log_variance + math.log(2 * math.pi))


def elbo(vae: Vae, items: Tensor, eps: Tensor) -> Elbo:
    """Monte Carlo ELBO with K reparametrised draws.

    Args:
        vae: The model.
        items: (B, C, H, W) in the likelihood's support.
        eps: (B, K, D), standard normal.
    """
    mean, log_variance = vae.encode(items)
    _, log_likelihood = _decoded_log_likelihood(vae, items, mean, log_variance, eps)
    return Elbo(log_likelihood, gaussian_kl(mean, log_variance))


def score_terms(vae: Vae, items: Tensor, eps: Tensor) -> ScoreTerms:
    """The terms of both bounds for items (B, C, H, W) and standard normal eps (B, K, D)."""
    mean, log_variance = vae.encode(items)
    latents, log_likelihood = _decoded_log_likelihood(vae, items, mean, log_variance, eps)
    zero = torch.zeros_like(latents)
    return ScoreTerms(
        log_likelihood=log_likelihood,
        log_prior=gaussian_log_prob(latents, zero, zero),
        # (z - mean) / std is eps itself: computing it anew would only lose digits.
        log_posterior=gaussian_log_prob(eps, zero, zero) - 0.5 * item_sum(log_variance).unsqueeze(-1),
        kl=gaussian_kl(mean, log_variance),
    )


def importance_bound(terms: ScoreTerms) -> Tensor:
    """Importance-weighted bound on log p(x) with the K draws at hand, (B,) nats.

    Source: Burda et al. 2016, arXiv:1509.00519, equation 8.
    """
    log_weights = terms.log_likelihood + terms.log_prior - terms.log_posterior
    return torch.logsumexp(log_weights, dim=1) - math.log(log_weights.shape[1])


def _decoded_log_likelihood(
    vae: Vae, items: Tensor, mean: Tensor, log_variance: Tensor, eps: Tensor
) -> tuple[Tensor, Tensor]:
    """Latents (B, K, D) and log p(x | z_k) (B, K); the decoder sees one flat batch of B K rows."""
    latents = mean.unsqueeze(1) + torch.exp(0.5 * log_variance).unsqueeze(1) * eps
    K = eps.shape[1]
    flat_items = items.unsqueeze(1).expand(-1, K, -1, -1, -1).flatten(0, 1)
    log_likelihood = vae.likelihood.log_prob(vae.decode(latents.flatten(0, 1)), flat_items)
    return latents, log_likelihood.reshape(-1, K)


class VaeStep:
    """Trains a VAE by its negative ELBO; the recipe may weight the KL and let the weight grow."""

    def __init__(self, model: Vae, options: VaeOptions) -> None:
        self.model = model
        self._options = options

    def phases(self) -> list[Phase]:
        """One update of encoder and decoder together."""
        return [Phase("vae", self.model, self._negative_elbo)]

    def validate(self, items: Tensor, noise: Noise) -> Mapping[str, Tensor]:
        """The ELBO and its terms, with one draw per item."""
        bound = elbo(self.model, items, noise.normal(len(items), 1, self.model.latent))
        log_likelihood = bound.log_likelihood.mean(1)
        return {"elbo": log_likelihood - bound.kl, "log_likelihood": log_likelihood, "kl": bound.kl}

    def sample(self, noise: Noise, rows: int) -> Tensor:
        """The likelihood's mean at latents from the prior."""
        return self.model.likelihood.mean(self.model.decode(noise.normal(rows, self.model.latent)))

    def _negative_elbo(self, items: Tensor, noise: Noise, step: int) -> Terms:
        bound = elbo(self.model, items, noise.normal(len(items), self._options.draws, self.model.latent))
        log_likelihood = bound.log_likelihood.mean(1)
        warmup = self._options.kl_warmup_steps
        kl_weight = self._options.kl_weight * (min(1.0, (step + 1) / warmup) if warmup else 1.0)
        return Terms(
            loss=kl_weight * bound.kl - log_likelihood,
            report={"elbo": log_likelihood - bound.kl, "log_likelihood": log_likelihood, "kl": bound.kl},
        )


def make_vae(recipe: Recipe, item_shape: tuple[int, int, int]) -> Vae:
    """The untrained VAE of a recipe with a [vae] table."""
    assert recipe.vae is not None
    return Vae(
        encoder=make_encoder(recipe.network, item_shape, outputs=2 * recipe.network.latent),
        decoder=make_decoder(recipe.network, item_shape),
        likelihood=make_likelihood(recipe.vae.likelihood),
        latent=recipe.network.latent,
        logit_bound=recipe.vae.logit_bound,
    )
