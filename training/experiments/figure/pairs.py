"""The methods that infer latents of points too: ALI and VEEGAN.

Both train a discriminator on pairs: (x, z inferred from it) of real points against (G(z), z).
Shapes: B rows, D latent dimensions; points (B, 2); pairs (B, 2 + D).
"""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.data import Dataset, Scaling
from training.loop.gan import GanTask
from training.loop.noise import Noise
from training.loop.task import Phase
from training.losses.gan import critic_generator_loss, discriminator_loss
from training.losses.terms import Terms
from training.models.gan import Discriminator, make_gan
from training.models.networks import DenseEncoder, Fourier, Standardise, initialise_orthogonally, make_encoder
from training.options import NetworkOptions
from training.recipe import Recipe

_POINT = 2
"""Coordinates of a point."""


class PairNetwork(nn.Module):
    """A dense network of pairs, which sees sines and cosines of the points but not of the latents."""

    def __init__(self, options: NetworkOptions, scaling: Scaling) -> None:
        super().__init__()
        fourier = Fourier(options.fourier_features, *options.fourier_frequencies)
        self.points = nn.Sequential(Standardise(scaling), fourier)
        inputs = fourier.width(_POINT) + options.latent
        self.dense = DenseEncoder(inputs, options.hidden, 1, options.gated)

    def forward(self, pairs: Tensor) -> Tensor:
        """(B, 2 + D) -> (B, 1)."""
        points, latents = pairs.tensor_split([_POINT], dim=1)
        logits: Tensor = self.dense(torch.cat([self.points(points), latents], dim=1))
        return logits


class PairTask(GanTask):
    """Trains a discriminator of pairs, then generator and encoder together, which share one loss."""

    def __init__(self, recipe: Recipe, dataset: Dataset) -> None:
        """Make the untrained networks; the encoder's outputs are means and log-variances of Gaussians."""
        assert recipe.gan is not None
        assert dataset.scaling is not None
        gan, plain = make_gan(recipe, dataset), recipe.network.model_copy(update={"fourier_features": 0})
        encoder = make_encoder(plain, dataset.item_shape, outputs=2 * plain.latent)
        self.encoder = gan.encoder = nn.Sequential(Standardise(dataset.scaling), encoder)
        gan.discriminator = Discriminator(PairNetwork(recipe.network, dataset.scaling), scaling=None)
        initialise_orthogonally(gan)
        super().__init__(gan, recipe.gan, recipe.loop.steps)

    def phases(self) -> list[Phase]:
        """Return the discriminator's update, then that of generator and encoder."""
        both = nn.ModuleList([self.model.generator, self.encoder])
        return [
            Phase("discriminator", self.model.discriminator, self._discriminator_terms),
            Phase("generator", both, self.joint_terms),
        ]

    @abstractmethod
    def joint_terms(self, items: Tensor, noise: Noise, step: int) -> Terms:
        """Return the loss of generator and encoder, (B,), on points (B, 2)."""

    def posterior(self, items: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log-variance, each (B, D), of the Gaussians inferred from points (B, 2)."""
        mean, log_variance = self.encoder(items).chunk(2, dim=1)
        return mean, log_variance

    def logits(self, items: Tensor, noise: Noise) -> tuple[Tensor, Tensor]:
        """Return the logits (B,) of pairs inferred from points (B, 2), and those of generated pairs."""
        mean, log_variance = self.posterior(items)
        inferred = mean + torch.exp(0.5 * log_variance) * noise.normal(*mean.shape)
        latents = noise.normal(*mean.shape)
        points = torch.cat([items, self.model.decode(latents)])
        logits = self.model.discriminate(torch.cat([points, torch.cat([inferred, latents])], dim=1))
        return logits[: len(items)], logits[len(items) :]

    def _discriminator_terms(self, items: Tensor, noise: Noise, step: int) -> Terms:  # noqa: ARG002
        return Terms(discriminator_loss(*self.logits(items, noise)), {})


class AliTask(PairTask):
    """Adversarially learned inference: generator and encoder make their pairs alike.

    Source: Dumoulin et al. 2017, arXiv:1606.00704, algorithm 1: the non-saturating form.
    """

    def joint_terms(self, items: Tensor, noise: Noise, step: int) -> Terms:  # noqa: ARG002 - one signature
        """Return the discriminator's loss, (B,), with the labels exchanged."""
        real_logits, fake_logits = self.logits(items, noise)
        return Terms(discriminator_loss(fake_logits, real_logits), {})


class VeeganTask(PairTask):
    """The encoder reconstructs latents from generated points, so the generator may not merge them.

    Source: Srivastava et al. 2017, arXiv:1705.07761, algorithm 1, with d(z, F(x)) = -log N(z; F(x)) in nats.
    """

    def joint_terms(self, items: Tensor, noise: Noise, step: int) -> Terms:  # noqa: ARG002 - one signature
        """Return the log density ratio of generated pairs plus the reconstruction loss of latents, (B,)."""
        latents = noise.normal(len(items), self.model.latent)
        points = self.model.decode(latents)
        logits = self.model.discriminate(torch.cat([points, latents], dim=1))
        mean, log_variance = self.posterior(points)
        missed = F.gaussian_nll_loss(mean, latents, log_variance.exp(), full=True, reduction="none")
        return Terms(critic_generator_loss(logits, logits) + missed.sum(1), {})
