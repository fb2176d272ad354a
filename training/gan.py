"""The generative adversarial network: model and objectives, per item, in nats.

D(x) = sigmoid(logit(x)) is the discriminator's probability that x is real. Shapes: B rows, D latent
dimensions; items (B, C, H, W); logits (B,). Source: Goodfellow et al. 2014, arXiv:1406.2661.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from training.likelihoods import SupportError
from training.networks import make_decoder, make_encoder
from training.objectives import (
    discriminator_loss,
    gradient_penalty,
    non_saturating_generator_loss,
    value_function,
)
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
            penalty = gradient_penalty(items, real_logits)
            loss = loss + self._options.r1_weight * self._options.r1_every * penalty
            report["r1_penalty"] = penalty
        return Terms(loss, report)

    def _generator_terms(self, items: Tensor, noise: Noise, step: int) -> Terms:  # noqa: ARG002 - one signature
        generated = self.model.decode(noise.normal(len(items), self.model.latent))
        loss = non_saturating_generator_loss(generated.new_zeros(()), self.model.discriminate(generated))
        return Terms(loss, {"generator_loss": loss})


def make_gan(recipe: Recipe, item_shape: tuple[int, ...]) -> Gan:
    """The untrained GAN of a recipe with a [gan] table."""
    return Gan(
        generator=make_decoder(recipe.network, item_shape),
        discriminator=make_encoder(recipe.network, item_shape, outputs=1),
        latent=recipe.network.latent,
    )
