"""The bilinear game and the Dirac-GAN: games with one number for each player.

The generator has x and the discriminator y; the equilibrium is (0, 0). Both take gradient steps on their own
losses. Source: Mescheder et al. 2018, arXiv:1801.04406, section 2 (Dirac-GAN) and section 4 (R1);
Daskalakis et al. 2018, arXiv:1711.00141, section 2 (bilinear). Shapes: T steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from training.losses.gan import discriminator_loss, gradient_penalty, minimax_generator_loss

Game = Callable[[Tensor, Tensor, float], tuple[Tensor, Tensor]]
"""(x, y, weight of the penalty) -> (the generator's loss, the discriminator's loss), all scalars."""


def bilinear_game(x: Tensor, y: Tensor, penalty_weight: float) -> tuple[Tensor, Tensor]:
    """Play min_x max_y x y; the penalty is y^2 / 2, half the discriminator's squared slope in x."""
    return x * y, -x * y + penalty_weight * 0.5 * y.square()


def dirac_gan(x: Tensor, y: Tensor, penalty_weight: float) -> tuple[Tensor, Tensor]:
    """Play the Dirac-GAN: all data is 0, the generator makes only x, and the logit of an item is y times it.

    Source: Mescheder et al. 2018, definition 2.1; R1 on the data, equation 9.
    """
    item = torch.zeros(1, 1, dtype=x.dtype, requires_grad=True)
    real_logits, fake_logits = (y * item).flatten(), (y * x).flatten()
    penalty = penalty_weight * gradient_penalty(item, real_logits)
    return (
        minimax_generator_loss(real_logits, fake_logits).sum(),
        (discriminator_loss(real_logits, fake_logits) + penalty).sum(),
    )


@dataclass(frozen=True)
class Play:
    """A game with its learning rate, order of steps and penalty."""

    game: Game
    learning_rate: float
    alternating: bool = False
    """True if the discriminator steps after the generator, else both step at the same time."""
    penalty_weight: float = 0.0
    """gamma of R1."""

    def step(self, place: Tensor) -> Tensor:
        """Return the next place (2,) of x and y, differentiable in `place`."""
        x, y = place.unbind()
        next_x = x - self.learning_rate * self._gradient(0, x, y)
        next_y = y - self.learning_rate * self._gradient(1, next_x if self.alternating else x, y)
        return torch.stack([next_x, next_y])

    def orbit(self, start: tuple[float, float], steps: int) -> Tensor:
        """Return the start and the place after every step, (T + 1, 2) float64."""
        places = [torch.tensor(start, dtype=torch.float64)]
        for _ in range(steps):
            places.append(self.step(places[-1].requires_grad_()).detach())
        return torch.stack([place.detach() for place in places])

    def growth(self) -> float:
        """Return the factor per step by which small distances to the equilibrium grow in the long run.

        It is the largest absolute eigenvalue of the step's Jacobian at (0, 0); below 1 the game converges.
        Source: Mescheder et al. 2017, arXiv:1705.10461, proposition 4.
        """
        origin = torch.zeros(2, dtype=torch.float64)
        jacobian = torch.autograd.functional.jacobian(self.step, origin)  # type: ignore[no-untyped-call]
        return float(torch.linalg.eigvals(jacobian).abs().max())

    def _gradient(self, player: int, x: Tensor, y: Tensor) -> Tensor:
        """Differentiate a player's loss in its own number only, even if the other's number depends on it."""
        own = (x, y)[player].clone()
        loss = self.game(*((own, y) if player == 0 else (x, own)), self.penalty_weight)[player]
        (gradient,) = torch.autograd.grad(loss, own, create_graph=True)
        return gradient


def radii(orbit: Tensor) -> Tensor:
    """Return the distances (T + 1,) to the equilibrium along an orbit (T + 1, 2)."""
    return orbit.square().sum(1).sqrt()


def measured_growth(orbit: Tensor) -> float:
    """Return the mean growth factor of the distance per step in an orbit's second half, geometric mean."""
    distances = radii(orbit)
    half = len(distances) // 2
    return math.exp(float((distances[-1] / distances[half]).log()) / (len(distances) - 1 - half))
