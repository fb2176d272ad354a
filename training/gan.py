"""The generative adversarial network: model and objectives, per item, in nats.

D(x) = sigmoid(logit(x)) is the discriminator's probability that x is real. Shapes: B rows, D latent
dimensions; items (B, C, H, W); logits (B,). Source: Goodfellow et al. 2014, arXiv:1406.2661.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.likelihoods import SupportError
from training.networks import make_decoder, make_encoder
from training.options import GanOptions
from training.recipe import Recipe
from training.step import Noise, Phase, Terms


class Gan(nn.Module):
    """A generator from N(0, I) to items in (0, 1), and a discriminator of items."""

    def __init__(self, generator: nn.Module, discriminator: nn.Module, latent: int) -> None:
        """Join a generator from D latents to unbounded pixels and a discriminator to one logit (B, 1)."""
        super().__init__()
        self.generator = generator
        self.discriminator = discriminator
        self.latent = latent

    def decode(self, latents: Tensor) -> Tensor:
        """Items (B, C, H, W) in (0, 1) of latents (B, D)."""
        return torch.sigmoid(self.generator(latents))

    def discriminate(self, items: Tensor) -> Tensor:
        """Logits (B,): positive means more likely real than generated."""
        logits: Tensor = self.discriminator(items)
        return logits.squeeze(1)


def discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """-log D(x) - log(1 - D(G(z))), (B,) nats; its mean is -V(G, D).

    Source: Goodfellow et al. 2014, equation 1.
    """
    return F.softplus(-real_logits) + F.softplus(fake_logits)


def non_saturating_generator_loss(fake_logits: Tensor) -> Tensor:
    """-log D(G(z)), (B,) nats: strong gradients where the discriminator wins. Source: ibid., section 3."""
    return F.softplus(-fake_logits)


def saturating_generator_loss(fake_logits: Tensor) -> Tensor:
    """log(1 - D(G(z))), (B,) nats, the minimax game's own term: its gradient vanishes where D wins."""
    return -F.softplus(fake_logits)


def r1_penalty(items: Tensor, logits: Tensor) -> Tensor:
    """|grad_x logit(x)|^2 / 2 per real item, (B,). Source: Mescheder et al. 2018, arXiv:1801.04406, eq. 9.

    Args:
        items: (B, C, H, W), requiring gradients.
        logits: (B,), computed from `items`, each row from its own item only.
    """
    (gradient,) = torch.autograd.grad(logits.sum(), items, create_graph=True)
    return 0.5 * gradient.flatten(1).square().sum(1)


class JsdBound(NamedTuple):
    """A lower bound on JSD(data || generator), with its standard error; nats."""

    value: float
    standard_error: float


def value_function(real_logits: Tensor, fake_logits: Tensor) -> tuple[Tensor, Tensor]:
    """The two terms of V(G, D), per item in nats: log D(x) and log(1 - D(G(z)))."""
    return F.logsigmoid(real_logits), F.logsigmoid(-fake_logits)


def jsd_bound(real_logits: Tensor, fake_logits: Tensor) -> JsdBound:
    """Log 2 + V(G, D) / 2 <= JSD(data || generator), for any D not trained on these items.

    Source: Goodfellow et al. 2014, theorem 1, V(G, D*) = -2 log 2 + 2 JSD with D* the maximiser.

    Args:
        real_logits: (N,) of held-out real items.
        fake_logits: (M,) of generated items.
    """
    real, fake = (term.double() for term in value_function(real_logits, fake_logits))
    variance = real.var() / len(real) + fake.var() / len(fake)
    return JsdBound(math.log(2) + 0.5 * float(real.mean() + fake.mean()), 0.5 * math.sqrt(float(variance)))


class GanStep:
    """Trains discriminator and generator in turn: logistic loss with R1, then the non-saturating loss."""

    def __init__(self, model: Gan, options: GanOptions) -> None:
        self.model = model
        self._options = options

    def phases(self) -> list[Phase]:
        """The discriminator's update, then the generator's."""
        ratio = self._options.discriminator_learning_rate_ratio
        return [
            Phase("discriminator", self.model.discriminator, self._discriminator_terms, ratio),
            Phase("generator", self.model.generator, self._generator_terms),
        ]

    def check(self, items: Tensor) -> None:
        """Refuse items that no generator could make.

        Raises:
            SupportError: Some value lies outside [0, 1] or is not a number.
        """
        if not bool(((items >= 0) & (items <= 1)).all()):
            raise SupportError(
                "a GAN learns pictures with values in [0, 1]; some lie outside, so scale the data"
            )

    def validate(self, items: Tensor, noise: Noise) -> Mapping[str, Tensor]:
        """Both terms of V(G, D) on held-out items and as many generated ones."""
        generated = self.model.decode(noise.normal(len(items), self.model.latent))
        real, fake = value_function(self.model.discriminate(items), self.model.discriminate(generated))
        return {
            "log_d_real": real,
            "log_one_minus_d_fake": fake,
            "jsd_bound": math.log(2) + (real + fake) / 2,
        }

    def sample(self, noise: Noise, rows: int) -> Tensor:
        """Generated items."""
        return self.model.decode(noise.normal(rows, self.model.latent))

    def _discriminator_terms(self, items: Tensor, noise: Noise, step: int) -> Terms:
        with torch.no_grad():
            generated = self.model.decode(noise.normal(len(items), self.model.latent))
        penalised = self._options.r1_weight > 0 and step % self._options.r1_every == 0
        if penalised:
            items = items.detach().requires_grad_()
        real_logits, fake_logits = self.model.discriminate(items), self.model.discriminate(generated)
        loss = discriminator_loss(real_logits, fake_logits)
        report = {"discriminator_loss": loss, "real_logit": real_logits, "fake_logit": fake_logits}
        if penalised:
            penalty = r1_penalty(items, real_logits)
            loss = loss + self._options.r1_weight * self._options.r1_every * penalty
            report["r1_penalty"] = penalty
        return Terms(loss, report)

    def _generator_terms(self, items: Tensor, noise: Noise, step: int) -> Terms:  # noqa: ARG002 - one signature
        generated = self.model.decode(noise.normal(len(items), self.model.latent))
        loss = non_saturating_generator_loss(self.model.discriminate(generated))
        return Terms(loss, {"generator_loss": loss})


def make_gan(recipe: Recipe, item_shape: tuple[int, ...]) -> Gan:
    """The untrained GAN of a recipe with a [gan] table."""
    return Gan(
        generator=make_decoder(recipe.network, item_shape),
        discriminator=make_encoder(recipe.network, item_shape, outputs=1),
        latent=recipe.network.latent,
    )
