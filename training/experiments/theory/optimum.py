"""The best discriminator's value is the Jensen-Shannon divergence, less log 4.

max_D V(G, D) = V(G, D*) = -2 log 2 + 2 JSD(p || q). Source: Goodfellow et al. 2014, arXiv:1406.2661,
section 4.1, proposition 1 and theorem 1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from training.experiments.theory.densities import (
    GRID,
    Integral,
    LineMixture,
    game_value,
    gaussian,
    jensen_shannon,
    optimal_logits,
)
from training.report.page import Picture, Section, Table
from training.report.plotting import BLUE, GREEN, ORANGE, PURPLE, legend_above, plot

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PAIRS: Mapping[str, tuple[LineMixture, LineMixture]] = {
    "equal Gaussians": (gaussian(0, 1), gaussian(0, 1)),
    "overlapping Gaussians": (gaussian(0, 1), gaussian(1.5, 0.7)),
    "two modes and one": (LineMixture((0.3, 0.7), (-2, 1.5), (0.5, 0.8)), gaussian(0, 1.5)),
    "nearly disjoint": (gaussian(-4, 0.7), gaussian(4, 1)),
}
"""Densities p of the data and q of the generator."""
DIRECTIONS: Mapping[str, Tensor] = {
    "+ s": torch.ones_like(GRID),
    "+ s x / 2": GRID / 2,
    "+ s sin(3 x)": torch.sin(3 * GRID),
}
"""Functions (N,) on `GRID` that are added, times a strength s, to the optimal logit."""
_STRENGTHS = torch.linspace(-1.5, 1.5, 61).tolist()
_PAIR = "two modes and one"
_DISTANCES = torch.linspace(0, 8, 33).tolist()


@dataclass(frozen=True)
class Optimum:
    """Both sides of theorem 1 for one pair of densities, in nats."""

    value: Integral
    """V(G, D*)."""
    divergence: Integral
    """JSD(p || q)."""

    @property
    def difference(self) -> float:
        """Return V(G, D*) - (-2 log 2 + 2 JSD), which is 0 by the theorem."""
        return self.value.value - (2 * self.divergence.value - 2 * math.log(2))


def measure_optimum(p: LineMixture, q: LineMixture) -> Optimum:
    """Measure both sides, each by its own quadrature."""
    return Optimum(game_value(p, q, optimal_logits(p, q)), jensen_shannon(p, q))


def losses_of_value(p: LineMixture, q: LineMixture, direction: Tensor) -> list[float]:
    """Return V(G, D*) - V(G, D) in nats for the optimal logit plus the direction (N,) at every strength."""
    best = optimal_logits(p, q)
    top = game_value(p, q, best).value
    return [top - game_value(p, q, best + strength * direction).value for strength in _STRENGTHS]


def optimum_section() -> Section:
    """Show theorem 1, its numerical error, and that every other discriminator is worse."""
    measured = {name: measure_optimum(*pair) for name, pair in PAIRS.items()}
    rows = tuple(
        (
            name,
            f"{optimum.divergence.value:.6f}",
            f"{optimum.value.value:.6f}",
            f"{abs(optimum.difference):.1g}",
            f"{max(optimum.value.error, optimum.divergence.error):.1g}",
        )
        for name, optimum in measured.items()
    )
    return Section(
        "The best discriminator measures a divergence",
        (
            "Against a fixed generator the best discriminator is D*(x) = p(x) / (p(x) + q(x)), and its value "
            "is a linear function of the Jensen-Shannon divergence: -log 4 if both densities are equal, 0 if "
            "they do not overlap. Any other discriminator has a lower value.",
        ),
        code="V(G, D*) = max over D of E_p[log D(x)] + E_q[log(1 - D(x))] = -2 log 2 + 2 JSD(p || q)",
        tables=(
            Table(
                ("p and q", "JSD, nats", "V(G, D*), nats", "difference of both sides", "quadrature error"),
                rows,
                "lrrrr",
            ),
        ),
        plots=(_drawn_apart(), _perturbed()),
    )


def _drawn_apart() -> Picture:
    pairs = [(gaussian(-distance / 2, 1), gaussian(distance / 2, 1)) for distance in _DISTANCES]
    measured = [measure_optimum(*pair) for pair in pairs]

    def draw(axes: Axes) -> None:
        divergences = [2 * optimum.divergence.value - 2 * math.log(2) for optimum in measured]
        axes.plot(_DISTANCES, divergences, color=BLUE, label="-2 log 2 + 2 JSD")
        values = [optimum.value.value for optimum in measured]
        axes.plot(_DISTANCES[::2], values[::2], "o", color=ORANGE, markersize=4, label="V(G, D*)")
        axes.axhline(-math.log(4), color=PURPLE, linewidth=0.8, linestyle="--", label="-log 4")
        axes.set(xlabel="distance of the means, in standard deviations", ylabel="nats")
        axes.legend(loc="lower right")

    return plot(
        draw,
        alt="The best discriminator's value rises from -log 4 to 0 and lies on -2 log 2 + 2 JSD everywhere",
        label="Two Gaussians drawn apart",
        caption="Line and dots are two integrals that share nothing but the densities.",
    )


def _perturbed() -> Picture:
    losses = {name: losses_of_value(*PAIRS[_PAIR], direction) for name, direction in DIRECTIONS.items()}

    def draw(axes: Axes) -> None:
        for (name, values), colour in zip(losses.items(), (BLUE, ORANGE, GREEN), strict=True):
            axes.plot(_STRENGTHS, [-value for value in values], color=colour, label=name)
        axes.set(xlabel="strength s of what is added to the optimal logit", ylabel="V(G, D) - V(G, D*), nats")
        legend_above(axes)

    return plot(
        draw,
        alt="Three curves that touch 0 at strength 0 and lie below it elsewhere",
        label=f"Every other discriminator is worse ({_PAIR})",
        caption="Along each direction V is concave, and s = 0 is its top.",
    )
