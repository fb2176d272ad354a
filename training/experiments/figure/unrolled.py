"""The unrolled GAN: the generator descends the game's value after K further steps of the discriminator.

Source: Metz et al. 2017, arXiv:1611.02163, section 2.2. As in its authors' notebook, all K steps are Adam's
on one batch, and the first of them is the one that the discriminator then takes. Shapes: B rows.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.func import functional_call

from training.experiments.figure.games import Draw, Game, descend
from training.experiments.figure.options import Options
from training.losses.gan import discriminator_loss

_EPSILON = 1e-8


class AdamState(NamedTuple):
    """Weights by name, with Adam's moments: everything that one of its steps changes."""

    weights: dict[str, Tensor]
    firsts: dict[str, Tensor]
    seconds: dict[str, Tensor]
    steps: int

    def after(self, loss: Tensor, rate: float, betas: tuple[float, float]) -> AdamState:
        """One step of Adam down the loss, itself differentiable in whatever the loss depends on."""
        gradients = dict(
            zip(
                self.weights,
                torch.autograd.grad(loss, [*self.weights.values()], create_graph=True),
                strict=True,
            )
        )
        steps = self.steps + 1
        firsts = {name: torch.lerp(g, self.firsts[name], betas[0]) for name, g in gradients.items()}
        seconds = {
            name: torch.lerp(g.square(), self.seconds[name], betas[1]) for name, g in gradients.items()
        }
        first_bias, second_bias = 1 - betas[0] ** steps, 1 - betas[1] ** steps
        weights = {
            name: weight
            # Inside the root, where Adam has epsilon outside: the root of zero has no derivative.
            - rate * (firsts[name] / first_bias) / (seconds[name] / second_bias + _EPSILON**2).sqrt()
            for name, weight in self.weights.items()
        }
        return AdamState(weights, firsts, seconds, steps)

    def detached(self) -> AdamState:
        """The same numbers, forgetting what they depend on; the weights require gradients."""
        weights = {name: value.detach().requires_grad_() for name, value in self.weights.items()}
        firsts, seconds = (
            {name: value.detach() for name, value in moments.items()}
            for moments in (self.firsts, self.seconds)
        )
        return AdamState(weights, firsts, seconds, self.steps)


class Unrolled(Game):
    """The saddle-point game, with the generator's gradient through the discriminator's next K steps."""

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        self._generator_descent = self._optimiser(self.generator)
        weights: dict[str, Tensor] = dict(self.discriminator.named_parameters())
        zeros = {name: torch.zeros_like(weight) for name, weight in weights.items()}
        self.state = AdamState(weights, zeros, zeros, steps=0).detached()
        """The discriminator's, in place of an optimiser's."""

    def step(self, draw: Draw, progress: float) -> None:  # noqa: ARG002 - one signature
        """Both players at once, from one batch."""
        real, fake = draw(self.options.batch_rows), self.generate(self.options.batch_rows)
        loss, ahead = self.unroll(real, fake)
        descend(self._generator_descent, loss)
        self.state = ahead.detached()
        with torch.no_grad():
            for name, weight in self.discriminator.named_parameters():
                weight.copy_(self.state.weights[name])

    def unroll(self, real: Tensor, fake: Tensor) -> tuple[Tensor, AdamState]:
        """The generator's loss V(G, D_K), a scalar, and the discriminator one step ahead.

        Args:
            real: (B, 2).
            fake: (B, 2), as the generator made them, with gradients.
        """
        state = first = self.state
        for step in range(self.options.unrolled_steps):
            state = state.after(self._loss(state, real, fake), self._rate(), self.options.betas)
            first = state if step == 0 else first
        return -self._loss(state, real, fake), first

    def _loss(self, state: AdamState, real: Tensor, fake: Tensor) -> Tensor:
        logits: Tensor = functional_call(self.discriminator, state.weights, torch.cat([real, fake]))
        return discriminator_loss(*logits.chunk(2)).mean()

    def _rate(self) -> float:
        rate: float = self._generator_descent.param_groups[0]["lr"]
        return rate * self.options.discriminator_learning_rate_ratio
