"""The methods that infer latents of points too: ALI and VEEGAN. Shapes: B rows, D latents; points (B, 2).

Both train a discriminator on pairs: (x, z inferred from it) of real points against (G(z), z).
"""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor
from torch.nn import functional as F

from training.experiments.figure.games import Draw, Game, descend
from training.experiments.figure.networks import Discriminator, Encoder, draw_latents
from training.experiments.figure.options import Options
from training.losses.gan import critic_generator_loss, discriminator_loss


class _Inference(Game):
    """A generator and an encoder, which descend one loss, and a discriminator of pairs."""

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        self.encoder = Encoder(options)
        self._joint_descent = self._optimiser(self.generator, self.encoder)
        self._discriminator_descent = self._optimiser(self.discriminator, rate=options.discriminator_rate)

    def step(self, draw: Draw, progress: float) -> None:  # noqa: ARG002 - one signature
        """The discriminator's step, then one of generator and encoder together."""
        descend(self._discriminator_descent, self.discriminator_loss(draw))
        descend(self._joint_descent, self.joint_loss(draw))

    def discriminator_loss(self, draw: Draw) -> Tensor:
        """The logistic loss of pairs, a scalar: those of real points against those of drawn latents."""
        rows = self.options.batch_rows
        with torch.no_grad():
            real, latents = draw(rows), torch.randn(rows, self.options.latent)
            points = torch.cat([real, self.generator(latents)])
            beside = torch.cat([draw_latents(*self.encoder(real)), latents])
        logits: Tensor = self.discriminator(points, beside)
        return discriminator_loss(*logits.chunk(2)).mean()

    @abstractmethod
    def joint_loss(self, draw: Draw) -> Tensor:
        """What generator and encoder descend, a scalar."""

    def _make_discriminator(self) -> Discriminator:
        return Discriminator(self.options, latent=self.options.latent)


class Ali(_Inference):
    """Adversarially learned inference: generator and encoder try to make their pairs alike.

    Source: Dumoulin et al. 2017, arXiv:1606.00704, algorithm 1: the non-saturating form.
    """

    def joint_loss(self, draw: Draw) -> Tensor:
        """The discriminator's loss with the labels exchanged."""
        rows = self.options.batch_rows
        real, latents = draw(rows), torch.randn(rows, self.options.latent)
        points = torch.cat([real, self.generator(latents)])
        beside = torch.cat([draw_latents(*self.encoder(real)), latents])
        logits: Tensor = self.discriminator(points, beside)
        real_logits, fake_logits = logits.chunk(2)
        return discriminator_loss(fake_logits, real_logits).mean()


class Veegan(_Inference):
    """The encoder reconstructs latents from generated points, so the generator may not merge them.

    Source: Srivastava et al. 2017, arXiv:1705.07761, algorithm 1, with d(z, F(x)) = -log N(z; F(x)) in nats.
    """

    def joint_loss(self, draw: Draw) -> Tensor:  # noqa: ARG002 - one signature
        """The pairs' estimated log density ratio, and the reconstruction of their latents."""
        latents = torch.randn(self.options.batch_rows, self.options.latent)
        points = self.generator(latents)
        logits: Tensor = self.discriminator(points, latents)
        mean, log_variance = self.encoder(points)
        unlikely = F.gaussian_nll_loss(mean, latents, log_variance.exp(), full=True, reduction="none")
        return (critic_generator_loss(logits, logits) + unlikely.sum(1)).mean()
