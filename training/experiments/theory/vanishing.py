"""The minimax generator's gradient vanishes if the discriminator wins; the non-saturating one's does not.

Source: Goodfellow et al. 2014, arXiv:1406.2661, section 3; Arjovsky & Bottou 2017, arXiv:1701.04862,
section 2.2, theorem 2.4 and figure 2. Shapes: B rows; N points of the grid.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import get_total_norm

from service.format.specs import Objective
from training.experiments.theory.densities import GRID, gaussian
from training.experiments.theory.discriminators import HIDDEN, LineDiscriminator
from training.experiments.theory.drawing import TALL, label_decades, places_between
from training.losses.gan import LOSSES
from training.models.networks import DenseDecoder
from training.report.page import Picture, Section, Table
from training.report.plotting import BLUE, GREEN, INK, ORANGE, PURPLE, legend_above, plot

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DATA = gaussian(4, 0.5)
STEPS = (1, 3, 10, 30, 100, 300, 1000)
"""Discriminator steps after which the generator's gradient is measured."""
FORMULAS: Mapping[Objective, str] = {"minimax": "log(1 - D(G(z)))", "non-saturating": "-log D(G(z))"}
_LATENT = 2
_BATCH_ROWS = 256
_LEARNING_RATE = 2e-3
_COLOURS = {1: GREEN, 30: PURPLE, 1000: ORANGE}


@dataclass(frozen=True)
class Norms:
    """The generator's gradient after some steps of the discriminator."""

    steps: int
    norms: Mapping[Objective, float]
    """Euclidean norms of the mean loss's gradient in all weights of the generator."""
    probability: float
    """Mean D(G(z)) in [0, 1]."""
    logits: Tensor
    """The discriminator's logits (N,) on the grid."""


def watch_gradients(steps: tuple[int, ...] = STEPS, seed: int = 0) -> list[Norms]:
    """Train a discriminator against an untrained generator that does not change."""
    noise = torch.Generator().manual_seed(seed)
    generator = _untrained_generator(seed)
    discriminator = LineDiscriminator(seed, _LEARNING_RATE)
    measured = []
    for step in range(1, steps[-1] + 1):
        with torch.no_grad():
            fake = generator(torch.randn(_BATCH_ROWS, _LATENT, generator=noise))
        discriminator.learn(DATA.draw(_BATCH_ROWS, noise), fake)
        if step in steps:
            latents = torch.randn(_BATCH_ROWS, _LATENT, generator=noise)
            measured.append(_measure(generator, discriminator, latents, step))
    return measured


def _untrained_generator(seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return DenseDecoder(_LATENT, (1,), HIDDEN, gated=False)


def _measure(generator: nn.Module, discriminator: LineDiscriminator, latents: Tensor, steps: int) -> Norms:
    logits = discriminator(generator(latents))
    norms: dict[Objective, float] = {}
    for objective in FORMULAS:
        loss = LOSSES[objective].generator(logits, logits).mean()
        gradients = torch.autograd.grad(loss, list(generator.parameters()), retain_graph=True)
        norms[objective] = float(get_total_norm(gradients))
    return Norms(steps, norms, torch.sigmoid(logits).mean().item(), discriminator.on_grid())


def vanishing_section() -> Section:
    """Show both gradients while the discriminator wins."""
    measured = watch_gradients()
    vanishing, strong = ([each.norms[objective] for each in measured] for objective in FORMULAS)
    rows = tuple(
        (
            f"{each.steps:,}",
            f"{each.probability:.1e}",
            *(f"{each.norms[objective]:.2e}" for objective in FORMULAS),
        )
        for each in measured
    )
    return Section(
        "Against a strong discriminator the minimax gradient vanishes",
        (
            "The generator makes numbers near 0, the data lie at 4, and only the discriminator learns. The "
            "surer it becomes, the flatter is log(1 - D) at generated items: its slope is D(G(z)) times "
            f"that of the logit, and after {STEPS[-1]:,} steps {vanishing[-1] / max(vanishing):.1g} of the "
            "largest gradient is left. -log D has the same optimum, but its slope is 1 - D(G(z)) times "
            f"that of the logit, and its gradient is {strong[-1] / strong[0]:.0f} times the first one.",
        ),
        code="d/dl log(1 - D) = -D,    d/dl (-log D) = -(1 - D),    with D = 1 / (1 + exp(-l))",
        tables=(
            Table(
                (
                    "discriminator steps",
                    "mean D(G(z))",
                    *(f"norm, {formula}" for formula in FORMULAS.values()),
                ),
                rows,
                "rrrr",
            ),
        ),
        plots=(_norms(measured), _landscape(measured)),
    )


def _norms(measured: list[Norms]) -> Picture:
    def draw(axes: Axes) -> None:
        for (objective, formula), colour in zip(FORMULAS.items(), (BLUE, ORANGE), strict=True):
            norms = [each.norms[objective] for each in measured]
            axes.loglog(
                [each.steps for each in measured], norms, "o-", color=colour, markersize=4, label=formula
            )
        label_decades(axes.xaxis, axes.yaxis)
        axes.set(xlabel="discriminator steps", ylabel="norm of the generator's gradient")
        legend_above(axes)

    return plot(
        draw,
        alt="The gradient of log(1 - D(G(z))) falls by orders of magnitude, that of -log D(G(z)) does not",
        label="The generator's gradient",
        size=TALL,
    )


def _landscape(measured: list[Norms]) -> Picture:
    latents = torch.randn(10_000, _LATENT, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        counts, edges = np.histogram(_untrained_generator(seed=0)(latents).numpy(), bins=24)

    def draw(axes: Axes) -> None:
        shown = places_between(-2.5, 7)
        heights = DATA.log_density().exp()
        axes.fill_between(
            GRID[shown], (heights / heights.max())[shown], alpha=0.25, linewidth=0, color=BLUE, label="data"
        )
        axes.stairs(
            counts / counts.max(), edges, fill=True, alpha=0.25, linewidth=0, color=INK, label="generated"
        )
        for each in measured:
            if each.steps in _COLOURS:
                answers = torch.sigmoid(each.logits)[shown]
                name = f"D after {each.steps:,} step{'s' if each.steps > 1 else ''}"
                axes.plot(GRID[shown], answers, color=_COLOURS[each.steps], label=name)
        axes.set_ylim(0, 1.05)
        axes.set(xlabel="x", ylabel="D(x)")
        legend_above(axes)

    return plot(
        draw,
        alt="The discriminator becomes a step between the generated items and the data, flat at both",
        label="Why: D is flat where the generator is",
        caption="Densities are drawn with their tops at 1.",
        size=TALL,
    )
