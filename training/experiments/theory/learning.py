"""A discriminator trained on two fixed densities approaches p / (p + q).

Source: Goodfellow et al. 2014, arXiv:1406.2661, section 4.1, proposition 1; figure 1 for the picture.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from training.experiments.theory.densities import (
    GRID,
    LineMixture,
    game_value,
    gaussian,
    integrate,
    jensen_shannon,
    optimal_logits,
)
from training.experiments.theory.discriminators import LineDiscriminator
from training.experiments.theory.drawing import TALL, label_decades, places_between
from training.report.page import Picture, Section, Table
from training.report.plotting import BLUE, GREEN, INK, ORANGE, PURPLE, legend_above, plot

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DATA = LineMixture((0.3, 0.7), (-2, 1.5), (0.5, 0.8))
GENERATED = gaussian(0, 1.5)
STEPS = (0, 10, 30, 100, 300, 1000, 3000)
"""Training steps after which the discriminator is measured."""
_COLOURS = {10: GREEN, 100: PURPLE, 3000: ORANGE}
_BATCH_ROWS = 512
_LEARNING_RATE = 1e-3


@dataclass(frozen=True)
class Snapshot:
    """A discriminator after some steps."""

    steps: int
    logits: Tensor
    """(N,) on the grid."""
    distance: float
    """Root mean squared D(x) - D*(x), over x from the even mixture of both densities."""
    value: float
    """V(G, D), nats, by quadrature."""


def train_discriminator(p: LineMixture, q: LineMixture, steps: tuple[int, ...] = STEPS) -> list[Snapshot]:
    """Train a discriminator on fresh items, and measure it after each of these numbers of steps."""
    generator = torch.Generator().manual_seed(0)
    discriminator = LineDiscriminator(0, _LEARNING_RATE)
    snapshots = []
    for step in range(steps[-1] + 1):
        if step in steps:
            snapshots.append(_look(discriminator, p, q, step))
        discriminator.learn(p.draw(_BATCH_ROWS, generator), q.draw(_BATCH_ROWS, generator))
    return snapshots


def learning_section() -> Section:
    """Show how a discriminator approaches the optimal one in training."""
    snapshots = train_discriminator(DATA, GENERATED)
    best = game_value(DATA, GENERATED, optimal_logits(DATA, GENERATED)).value
    rows = tuple(
        (f"{shot.steps:,}", f"{shot.distance:.4f}", f"{shot.value:.4f}", f"{best - shot.value:.4f}")
        for shot in snapshots
    )
    divergence = jensen_shannon(DATA, GENERATED).value
    return Section(
        "A trained discriminator finds it",
        (
            "The network does not know p and q; it sees items of both and predicts the source of each. Its "
            "output converges to a ratio of the two densities. Where neither has items it learns nothing.",
        ),
        code="D*(x) = p(x) / (p(x) + q(x))",
        tables=(
            Table(
                ("steps", "RMSE of D", "V(G, D), nats", "short of V(G, D*), nats"),
                rows,
                "rrrr",
                f"V(G, D*) = {best:.4f} nats, JSD = {divergence:.4f} nats",
            ),
        ),
        plots=(_answers(snapshots), _distances(snapshots)),
    )


def _look(discriminator: LineDiscriminator, p: LineMixture, q: LineMixture, steps: int) -> Snapshot:
    logits = discriminator.on_grid()
    mixture = 0.5 * (p.log_density().exp() + q.log_density().exp())
    squares = (torch.sigmoid(logits) - torch.sigmoid(optimal_logits(p, q))).square()
    return Snapshot(steps, logits, integrate(mixture * squares).value ** 0.5, game_value(p, q, logits).value)


def _answers(snapshots: list[Snapshot]) -> Picture:
    def draw(axes: Axes) -> None:
        shown = places_between(-5, 5)
        for name, density, colour in (("p, the data", DATA, BLUE), ("q, the generator", GENERATED, INK)):
            heights = density.log_density().exp()[shown]
            axes.fill_between(GRID[shown], heights, color=colour, alpha=0.25, linewidth=0, label=name)
        optimum = torch.sigmoid(optimal_logits(DATA, GENERATED))[shown]
        axes.plot(GRID[shown], optimum, color=INK, linewidth=2, label="D*")
        for shot in snapshots:
            if shot.steps in _COLOURS:
                answers, name = torch.sigmoid(shot.logits)[shown], f"D after {shot.steps:,} steps"
                axes.plot(GRID[shown], answers, color=_COLOURS[shot.steps], linewidth=1.2, label=name)
        axes.set(xlabel="x", ylabel="probability, density")
        legend_above(axes)

    return plot(
        draw,
        alt="Two densities, the optimal discriminator, and trained ones that come ever closer to it",
        label="What the discriminator answers",
        size=TALL,
    )


def _distances(snapshots: list[Snapshot]) -> Picture:
    trained = [shot for shot in snapshots if shot.steps]

    def draw(axes: Axes) -> None:
        steps, distances = [shot.steps for shot in trained], [shot.distance for shot in trained]
        axes.loglog(steps, distances, "o-", color=BLUE, markersize=4)
        axes.set(xlabel="training steps", ylabel="RMSE of D against D*")
        label_decades(axes.xaxis)
        label_decades(axes.yaxis, marks=(1, 2, 5))

    return plot(
        draw,
        alt=f"The error falls from {trained[0].distance:.3f} to {trained[-1].distance:.4f}",
        label="Distance to the optimum",
        caption="Over x from the even mixture of both densities.",
        size=TALL,
    )
