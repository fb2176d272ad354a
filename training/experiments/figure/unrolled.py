"""The unrolled GAN: the generator descends the game's value after K further steps of the discriminator.

Source: Metz et al. 2017, arXiv:1611.02163, section 2.2. As in its authors' notebook, all K steps are Adam's
on one batch, and the first of them is the one that the discriminator then takes. Shapes: B rows.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.func import functional_call

from training.data import Dataset
from training.loop.gan import GanTask
from training.loop.noise import Noise
from training.loop.task import Phase
from training.losses.gan import discriminator_loss
from training.losses.terms import Terms
from training.models.gan import make_gan
from training.recipe import Recipe

_EPSILON = 1e-8


class AdamState(NamedTuple):
    """Weights by name, with Adam's moments: everything that one of its steps changes."""

    weights: dict[str, Tensor]
    firsts: dict[str, Tensor]
    seconds: dict[str, Tensor]
    steps: int

    def after(self, loss: Tensor, rate: float, betas: tuple[float, float]) -> AdamState:
        """Do one step of Adam, differentiable in everything that the loss depends on."""
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
        """Return the same numbers without their graph; the weights require gradients."""
        weights = {name: value.detach().requires_grad_() for name, value in self.weights.items()}
        firsts, seconds = (
            {name: value.detach() for name, value in moments.items()}
            for moments in (self.firsts, self.seconds)
        )
        return AdamState(weights, firsts, seconds, self.steps)


class UnrolledTask(GanTask):
    """Trains by the saddle-point game, with gradients through the discriminator's next K steps."""

    unrolled_steps = 5
    """K, as in its authors' notebook."""

    def __init__(self, recipe: Recipe, dataset: Dataset) -> None:
        """Make the untrained networks."""
        assert recipe.gan is not None
        super().__init__(make_gan(recipe, dataset), recipe.gan, recipe.loop.steps)
        self._loop = recipe.loop
        weights: dict[str, Tensor] = dict(self.model.discriminator.named_parameters())
        zeros = {name: torch.zeros_like(weight) for name, weight in weights.items()}
        self.state = AdamState(weights, zeros, zeros, steps=0).detached()
        """The discriminator's weights and moments, as the loop's optimiser has them."""
        self._fake = torch.empty(0)

    def phases(self) -> list[Phase]:
        """Return the generator's update, then the discriminator's on the same points."""
        return [
            Phase("generator", self.model.generator, self._generator_terms),
            Phase("discriminator", self.model.discriminator, self._discriminator_terms),
        ]

    def unroll(self, real: Tensor, fake: Tensor, step: int) -> tuple[Tensor, AdamState]:
        """Return the generator's loss V(G, D_K), (B,), and the discriminator one step ahead.

        Args:
            real: (B, 2).
            fake: (B, 2), as the generator made them, with gradients.
            step: The place in the schedule of the learning rate.
        """
        current = {name: weight.detach() for name, weight in self.model.discriminator.named_parameters()}
        state = first = self.state._replace(weights=current).detached()
        rate, betas = self._loop.learning_rate_at(step), self._loop.betas
        for ahead in range(self.unrolled_steps):
            state = state.after(self._losses_at(state, real, fake).mean(), rate, betas)
            first = state if ahead == 0 else first
        return -self._losses_at(state, real, fake), first

    def _losses_at(self, state: AdamState, real: Tensor, fake: Tensor) -> Tensor:
        logits: Tensor = functional_call(self.model.discriminator, state.weights, torch.cat([real, fake]))
        return discriminator_loss(logits[: len(real)], logits[len(real) :])

    def _generator_terms(self, items: Tensor, noise: Noise, step: int) -> Terms:
        fake = self.sample(noise, len(items))
        loss, first = self.unroll(items, fake, step)
        self._fake, self.state = fake.detach(), first.detached()
        return Terms(loss, {})

    def _discriminator_terms(self, items: Tensor, noise: Noise, step: int) -> Terms:  # noqa: ARG002
        logits = self.model.discriminate(torch.cat([items, self._fake]))
        return Terms(discriminator_loss(logits[: len(items)], logits[len(items) :]), {})
