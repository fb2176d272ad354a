"""The two smallest games: simultaneous steps leave the equilibrium, alternating ones circle, R1 settles."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from training.experiments.theory.games import Game, Play, bilinear_game, dirac_gan, measured_growth, radii

RATES = st.floats(0.01, 0.5)
PLACES = st.tuples(st.floats(0.1, 3), st.floats(-3, 3))
GAMES = pytest.mark.parametrize("game", [bilinear_game, dirac_gan])
quick = settings(max_examples=8, derandomize=True)


@given(RATES, PLACES)
@quick
def test_simultaneous_steps_of_the_bilinear_game_leave_by_the_same_factor_every_step(
    rate: float, start: tuple[float, float]
) -> None:
    distances = radii(Play(bilinear_game, rate).orbit(start, 20))
    expected = torch.full((20,), math.sqrt(1 + rate**2), dtype=torch.float64)
    assert torch.allclose(distances[1:] / distances[:-1], expected, rtol=1e-12)


@given(RATES, PLACES)
@quick
def test_alternating_steps_of_the_bilinear_game_stay_on_an_ellipse(
    rate: float, start: tuple[float, float]
) -> None:
    x, y = Play(bilinear_game, rate, alternating=True).orbit(start, 50).T
    conserved = x.square() + y.square() - rate * x * y
    assert torch.allclose(conserved, conserved[0].expand(51), rtol=1e-10)


@given(RATES, st.floats(1.2, 3), PLACES)
@quick
def test_with_a_penalty_the_bilinear_game_settles_geometrically(
    rate: float, ratio: float, start: tuple[float, float]
) -> None:
    # Complex eigenvalues, so that their squared modulus is the determinant 1 - h gamma + h^2.
    gamma = min(ratio * rate, 1.5)
    play = Play(bilinear_game, rate, penalty_weight=gamma)
    growth = math.sqrt(1 - rate * gamma + rate**2)
    assert play.growth() == pytest.approx(growth, rel=1e-9)
    assert growth < 1
    distances = radii(play.orbit(start, 100))
    steps = torch.arange(101, dtype=torch.float64)
    scaled = distances / (distances[0] * growth**steps)
    assert scaled.max() < 10
    assert scaled.min() > 0.1


@GAMES
@pytest.mark.parametrize("rate", [0.05, 0.2])
def test_the_eigenvalues_tell_which_steps_leave_circle_and_settle(game: Game, rate: float) -> None:
    assert Play(game, rate).growth() > 1
    assert Play(game, rate, alternating=True).growth() == pytest.approx(1, abs=1e-12)
    assert Play(game, rate, penalty_weight=0.5).growth() < 1


@GAMES
def test_near_the_equilibrium_a_game_does_what_its_eigenvalues_say(game: Game) -> None:
    for play in (Play(game, 0.2), Play(game, 0.2, alternating=True), Play(game, 0.2, penalty_weight=0.5)):
        assert measured_growth(play.orbit((1e-3, 1e-3), 200)) == pytest.approx(play.growth(), abs=4e-3)


def test_the_dirac_gan_spirals_outwards_circles_or_settles() -> None:
    start = (1.0, 1.0)
    outwards = radii(Play(dirac_gan, 0.2).orbit(start, 300))
    assert (outwards.diff() > -1e-12).all()
    assert outwards[-1] > 1.5 * outwards[0]
    circling = radii(Play(dirac_gan, 0.2, alternating=True).orbit(start, 300))
    assert 0.5 * circling[0] < circling.min() <= circling.max() < 2 * circling[0]
    assert radii(Play(dirac_gan, 0.2, penalty_weight=0.3).orbit(start, 300))[-1] < 1e-3


def test_each_player_takes_the_gradient_of_its_own_number_alone() -> None:
    x, y = Play(bilinear_game, 0.1, alternating=True).orbit((1.0, 2.0), 1)[1].tolist()
    assert x == pytest.approx(1.0 - 0.1 * 2.0)
    assert y == pytest.approx(2.0 + 0.1 * x)
