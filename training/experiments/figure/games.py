"""Two players and the steps of their game, for every method without an encoder.

Shapes: B judgements, m points in each, D latent dimensions; points (B m, 2), logits (B,).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor, nn

from training.experiments.figure.networks import Discriminator, Generator
from training.experiments.figure.options import Options
from training.loop.task import Rate
from training.losses.gan import LOSSES, gradient_penalty, packed, slope_penalty

Draw = Callable[[int], Tensor]
"""Rows to as many standardised training points (rows, 2)."""


class Game(ABC):
    """The networks of a method, an optimiser for each player, and one step of training."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.generator = Generator(options)
        self.discriminator = self._make_discriminator()
        self._optimisers: dict[torch.optim.Adam, Rate] = {}

    @abstractmethod
    def step(self, draw: Draw, progress: float) -> None:
        """Update every player; `progress` in [0, 1) is the share of the run that is behind."""

    def set_learning_rates(self, progress: float) -> None:
        """Let the learning rates fall geometrically."""
        base = _between(self.options.learning_rate, self.options.final_learning_rate, progress)
        for optimiser, rate in self._optimisers.items():
            optimiser.param_groups[0]["lr"] = rate.at(base, progress)

    def generate(self, rows: int) -> Tensor:
        """Points (rows, 2) of fresh latents."""
        points, _ = self.generator.draw(rows)
        return points

    def _make_discriminator(self) -> Discriminator:
        return Discriminator(self.options)

    def _optimiser(self, *networks: nn.Module, rate: Rate | None = None) -> torch.optim.Adam:
        weights = [weight for network in networks for weight in network.parameters()]
        optimiser = torch.optim.Adam(weights, betas=self.options.betas, fused=True)
        self._optimisers[optimiser] = rate or Rate()
        return optimiser


class Adversarial(Game):
    """The game of two losses, with packing and penalties as the options say."""

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        self._losses = LOSSES[options.objective]
        self._generator_descent = self._optimiser(self.generator)
        self._discriminator_descent = self._optimiser(self.discriminator, rate=options.discriminator_rate)

    def step(self, draw: Draw, progress: float) -> None:
        """The discriminator's steps, then one of the generator's."""
        for _ in range(self.options.discriminator_steps):
            descend(self._discriminator_descent, self.discriminator_loss(draw, progress))
        descend(self._generator_descent, self.generator_loss(draw, progress))

    def discriminator_loss(self, draw: Draw, progress: float) -> Tensor:
        """The discriminator's mean loss with its penalties, a scalar."""
        options, rows = self.options, self.options.batch_rows * self.options.packing
        with torch.no_grad():
            fake = packed(self.generate(rows), options.packing)
        real = packed(draw(rows), options.packing)
        both = torch.cat([real, fake]).requires_grad_(options.penalty_weight > 0)
        logits: Tensor = self.discriminator(both)
        loss = self._losses.discriminator(*logits.chunk(2)).mean()
        if options.penalty_weight > 0:
            # Both penalties at once: twice the mean over both halves is the sum of the two means.
            loss = loss + self._penalty_weight(progress) * 2 * gradient_penalty(both, logits).mean()
        if options.slope_weight > 0:
            slope = slope_penalty(self.discriminator, real, fake, torch.rand(len(real)))
            loss = loss + options.slope_weight * slope.mean()
        return loss

    def generator_loss(self, draw: Draw, progress: float) -> Tensor:
        """The generator's mean loss, a scalar."""
        options, rows = self.options, self.options.batch_rows * self.options.packing
        points, components = self.generator.draw(rows)
        fake_logits: Tensor = self.discriminator(packed(points, options.packing))
        real_logits = torch.zeros_like(fake_logits)
        if self._losses.generator_sees_real:
            with torch.no_grad():
                real_logits = self.discriminator(packed(draw(rows), options.packing))
        loss = self._losses.generator(real_logits, fake_logits)
        if components is not None and self.generator.prior is not None:
            loss = loss + self.generator.prior.surrogate(loss.detach() - math.log(2), components)
            loss = loss + options.island_evenness * (1 - progress) * self.generator.prior.weight_kl()
        return loss.mean()

    def _penalty_weight(self, progress: float) -> float:
        options = self.options
        fallen = min(1.0, progress / (1 - options.penalty_settled))
        return _between(options.penalty_weight, options.final_penalty_weight, fallen)


def _between(first: float, last: float, share: float) -> float:
    """From `first` at the share 0 to `last` at 1, by equal factors."""
    return first * math.pow(last / first, share)


def descend(optimiser: torch.optim.Optimizer, loss: Tensor) -> None:
    """One step down the loss, which touches the optimiser's own weights and no others."""
    weights = optimiser.param_groups[0]["params"]
    for weight, gradient in zip(weights, torch.autograd.grad(loss, weights), strict=True):
        weight.grad = gradient
    optimiser.step()
