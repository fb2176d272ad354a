"""The orbits of the two games under simultaneous steps, alternating steps, and with R1."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from torch import Tensor

from training.experiments.theory.drawing import label_decades
from training.experiments.theory.games import Game, Play, bilinear_game, dirac_gan, measured_growth, radii
from training.report.page import Picture, Section, Table
from training.report.plotting import BLUE, GREEN, INK, ORANGE, legend_above, plot

if TYPE_CHECKING:
    from matplotlib.axes import Axes

START = (1.0, 1.0)
STEPS = 300
GAMES: Mapping[str, tuple[Game, float, float]] = {
    "bilinear game": (bilinear_game, 0.1, 0.3),
    "Dirac-GAN": (dirac_gan, 0.2, 0.3),
}
"""Each game with its learning rate and the weight of R1."""
_COLOURS = {"simultaneous": BLUE, "alternating": GREEN, "simultaneous, R1": ORANGE}


def plays(game: Game, learning_rate: float, penalty_weight: float) -> dict[str, Play]:
    """Return the three ways to play a game."""
    return {
        "simultaneous": Play(game, learning_rate),
        "alternating": Play(game, learning_rate, alternating=True),
        "simultaneous, R1": Play(game, learning_rate, penalty_weight=penalty_weight),
    }


def orbits_section() -> Section:
    """Show the orbits of both games in the plane, and their growth factors."""
    rows = []
    plots = []
    for name, (game, learning_rate, penalty_weight) in GAMES.items():
        ways = plays(game, learning_rate, penalty_weight)
        orbits = {way: play.orbit(START, STEPS) for way, play in ways.items()}
        rows += [
            (
                f"{name}, {way}",
                f"{play.growth():.6f}",
                f"{measured_growth(orbits[way]):.6f}",
                f"{radii(orbits[way])[-1]:.2g}",
            )
            for way, play in ways.items()
        ]
        plots += [_plane(name, orbits, learning_rate), _distances(name, orbits, penalty_weight)]
    head = ("game and steps", "largest |eigenvalue|", "growth per step, measured", f"distance after {STEPS}")
    return Section(
        "Two players move in circles, and with R1 they converge",
        (
            "The smallest games have one number for each player and their equilibrium at (0, 0), but the "
            "gradients do not point to it. Simultaneous steps spiral outwards; alternating steps circle "
            "for ever; with a penalty on the discriminator's slope (R1) they spiral in. The eigenvalues of "
            "one step at (0, 0) predict this: in the bilinear game, without R1 and with steps of length h, "
            "the distance grows by the factor sqrt(1 + h^2) per step.",
        ),
        code="bilinear: min over x, max over y of x y\n"
        "Dirac-GAN: data 0, G = x, logit of D = y times item;    R1: + gamma y^2 / 2 for the discriminator",
        tables=(Table(head, tuple(rows), "lrrr", "The eigenvalues hold near the equilibrium"),),
        plots=tuple(plots),
    )


def _plane(name: str, orbits: Mapping[str, Tensor], learning_rate: float) -> Picture:
    def draw(axes: Axes) -> None:
        for way, orbit in orbits.items():
            axes.plot(*orbit.T, color=_COLOURS[way], linewidth=1, label=way)
        axes.plot(*START, "o", color=INK, markersize=4)
        axes.plot(0, 0, "+", color=INK, markersize=9)
        axes.set_aspect("equal", adjustable="datalim")
        axes.set(xlabel="x, the generator", ylabel="y, the discriminator")
        legend_above(axes)

    return plot(
        draw,
        alt=f"{name}: simultaneous steps spiral outwards, alternating ones circle, with R1 inwards",
        label=f"The {name}",
        caption=f"{STEPS} steps of length h = {learning_rate:g} times the gradient; dot: the start, "
        "cross: the equilibrium.",
        size=(5.4, 4.6),
    )


def _distances(name: str, orbits: Mapping[str, Tensor], penalty_weight: float) -> Picture:
    def draw(axes: Axes) -> None:
        for way, orbit in orbits.items():
            axes.semilogy(radii(orbit), color=_COLOURS[way], label=way)
        label_decades(axes.yaxis)
        axes.set(xlabel="steps", ylabel="distance to the equilibrium")
        legend_above(axes)

    return plot(
        draw,
        alt=f"{name}: the distance grows, stays, or with R1 falls geometrically",
        label=f"The {name}: distance to the equilibrium",
        caption=f"R1 with gamma = {penalty_weight:g}.",
        size=(5.4, 4.6),
    )
