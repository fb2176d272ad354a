"""Losses of the two players of a GAN: pure functions of logits, per item, in nats.

D(x) = sigmoid(logit(x)) is the discriminator's probability that x is real. Each function returns one value
per item and leaves the reduction to the loop. Shapes: B rows; items (B, *item); logits (B,). Source of the
game: Goodfellow et al. 2014, arXiv:1406.2661.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from service.format.specs import Objective


def discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Return -log D(x) - log(1 - D(G(z))), (B,), of mean -V(G, D). Source: Goodfellow et al. 2014, eq. 1."""
    return F.softplus(-real_logits) + F.softplus(fake_logits)


def minimax_generator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:  # noqa: ARG001 - one signature
    """Return log(1 - D(G(z))), (B,), the game's own term; its gradient vanishes if D wins. Source: ibid."""
    return -F.softplus(fake_logits)


def non_saturating_generator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:  # noqa: ARG001
    """Return -log D(G(z)), (B,), whose gradient stays strong if D wins. Source: ibid., section 3."""
    return F.softplus(-fake_logits)


def hinge_discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Return max(0, 1 - C(x)) + max(0, 1 + C(G(z))), (B,). Source: Lim & Ye 2017, arXiv:1705.02894."""
    return F.relu(1 - real_logits) + F.relu(1 + fake_logits)


def wasserstein_discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Return C(G(z)) - C(x), (B,), for a critic C of slope at most 1. Source: Arjovsky et al. 2017, eq. 2."""
    return fake_logits - real_logits


def critic_generator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:  # noqa: ARG001 - one signature
    """Return -C(G(z)), (B,), the generator's loss in the hinge and the Wasserstein game."""
    return -fake_logits


def relativistic_discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Return -log sigmoid(C(x) - C(G(z))), (B,), each real item paired with one generated item.

    Its optimum is C = log(p / q) + a constant. Source: Jolicoeur-Martineau 2019, arXiv:1807.00734, section 3.
    """
    return F.softplus(fake_logits - real_logits)


def relativistic_generator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Return -log sigmoid(C(G(z)) - C(x)), (B,), the same game with the roles exchanged. Source: ibid."""
    return F.softplus(real_logits - fake_logits)


class Losses(NamedTuple):
    """Both players' losses: each maps (real logits (B,), fake logits (B,)) to (B,)."""

    discriminator: Callable[[Tensor, Tensor], Tensor]
    generator: Callable[[Tensor, Tensor], Tensor]
    generator_sees_real: bool = False
    """True if the generator's loss depends on the real logits."""


LOSSES: Mapping[Objective, Losses] = {
    "minimax": Losses(discriminator_loss, minimax_generator_loss),
    "non-saturating": Losses(discriminator_loss, non_saturating_generator_loss),
    "hinge": Losses(hinge_discriminator_loss, critic_generator_loss),
    "wasserstein": Losses(wasserstein_discriminator_loss, critic_generator_loss),
    "relativistic": Losses(
        relativistic_discriminator_loss, relativistic_generator_loss, generator_sees_real=True
    ),
}


def gradient_penalty(items: Tensor, logits: Tensor) -> Tensor:
    """Return |grad_x logit(x)|^2 / 2, (B,): R1 on real items, R2 on generated ones.

    Items (B, *item) require gradients; logits (B,) or, packed, (B // m,) are computed from them. Source:
    Mescheder et al. 2018, arXiv:1801.04406, equation 9; both: Huang et al. 2024, arXiv:2501.05441.
    """
    (gradient,) = torch.autograd.grad(logits.sum(), items, create_graph=True)
    return 0.5 * gradient.flatten(1).square().sum(1)


def slope_penalty(
    discriminate: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, uniforms: Tensor
) -> Tensor:
    """Return (|grad_x C(x)| - 1)^2 at random points between real and generated items, (B,).

    Source: Gulrajani et al. 2017, "WGAN-GP", arXiv:1704.00028, equation 3.

    Args:
        discriminate: Maps items (B, *item) to logits.
        real: (B, *item).
        fake: (B, *item), without gradients.
        uniforms: (B,) in [0, 1), the place of each point between the two.
    """
    weight = uniforms.view(-1, *(1 for _ in real.shape[1:]))
    between = torch.lerp(real, fake, weight).requires_grad_()
    (gradient,) = torch.autograd.grad(discriminate(between).sum(), between, create_graph=True)
    return (gradient.flatten(1).square().sum(1).add(1e-12).sqrt() - 1).square()


def packed(items: Tensor, together: int) -> Tensor:
    """Pack items (B, C, ...) as (B // m, m C, ...): m successive items are judged together.

    The last items are left out if they are fewer than m. Source: Lin et al. 2018, "PacGAN", arXiv:1712.04086,
    section 3.
    """
    rows, channels, *rest = items.shape
    packs = rows // together
    return items[: packs * together].reshape(packs, together * channels, *rest)


def value_function(real_logits: Tensor, fake_logits: Tensor) -> tuple[Tensor, Tensor]:
    """Return the two terms of V(G, D), per item in nats: log D(x) and log(1 - D(G(z)))."""
    return F.logsigmoid(real_logits), F.logsigmoid(-fake_logits)
