"""The theorems on discriminators: the optimum, the way to it, the bound, and the vanishing gradient."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from training.experiments.theory.bound import train_and_measure
from training.experiments.theory.densities import (
    GRID,
    LineMixture,
    game_value,
    gaussian,
    jensen_shannon,
    optimal_logits,
)
from training.experiments.theory.learning import DATA, GENERATED, train_discriminator
from training.experiments.theory.optimum import DIRECTIONS, PAIRS, losses_of_value, measure_optimum
from training.experiments.theory.vanishing import watch_gradients

OTHER_PAIRS = [pair for name, pair in PAIRS.items() if name != "equal Gaussians"]


@pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS)
def test_the_best_value_is_twice_the_divergence_less_log_four(pair: tuple[LineMixture, LineMixture]) -> None:
    optimum = measure_optimum(*pair)
    assert optimum.value.error + optimum.divergence.error < 1e-12
    assert abs(optimum.difference) < 1e-12


def test_the_quadrature_agrees_with_an_adaptive_one() -> None:
    p, q = stats.norm(0, 1), stats.norm(1.5, 0.7)

    def integrand(x: float) -> float:
        middle = (p.pdf(x) + q.pdf(x)) / 2
        return float(0.5 * sum(each.pdf(x) * math.log(each.pdf(x) / middle) for each in (p, q)))

    expected = integrate.quad(integrand, -8, 8, epsabs=1e-12)[0]
    assert jensen_shannon(gaussian(0, 1), gaussian(1.5, 0.7)).value == pytest.approx(expected, abs=1e-10)


def test_the_divergence_is_symmetric_and_between_zero_and_log_two() -> None:
    for p, q in PAIRS.values():
        divergence = jensen_shannon(p, q).value
        assert -1e-15 <= divergence <= math.log(2)
        assert jensen_shannon(q, p).value == pytest.approx(divergence, abs=1e-15)
    assert jensen_shannon(*PAIRS["equal Gaussians"]).value == pytest.approx(0, abs=1e-15)


@given(
    st.sampled_from(OTHER_PAIRS),
    st.lists(st.floats(-2, 2), min_size=4, max_size=4).filter(lambda weights: max(map(abs, weights)) > 0.01),
    st.floats(0.2, 4),
)
@settings(max_examples=40, derandomize=True)
def test_any_other_discriminator_has_a_smaller_value(
    pair: tuple[LineMixture, LineMixture], weights: list[float], frequency: float
) -> None:
    waves = torch.stack([torch.sin(k * frequency * GRID + k) for k in range(1, 5)])
    best = optimal_logits(*pair)
    other = game_value(*pair, best + torch.tensor(weights, dtype=torch.float64) @ waves)
    assert other.value < game_value(*pair, best).value


@pytest.mark.parametrize("direction", DIRECTIONS.values(), ids=DIRECTIONS)
def test_the_value_is_concave_along_a_line_through_the_optimum(direction: torch.Tensor) -> None:
    losses = np.array(losses_of_value(*OTHER_PAIRS[0], direction))
    assert losses.argmin() == len(losses) // 2
    assert (np.diff(losses, 2) > 0).all()


def test_items_are_drawn_from_the_density() -> None:
    items = DATA.draw(20_000, torch.Generator().manual_seed(0)).flatten().numpy()
    normals = [stats.norm(*part) for part in zip(DATA.means, DATA.deviations, strict=True)]

    def cumulative(x: np.ndarray) -> np.ndarray:
        return np.asarray(
            sum(weight * part.cdf(x) for weight, part in zip(DATA.weights, normals, strict=True))
        )

    assert stats.kstest(items, cumulative).pvalue > 1e-3
    inside = (items > 0) & (items < 1)
    window = (GRID >= 0) & (GRID <= 1)
    mass = float(torch.trapezoid(DATA.log_density().exp()[window], GRID[window]))
    assert inside.mean() == pytest.approx(mass, abs=5 * (mass / len(items)) ** 0.5)


def test_a_discriminator_trained_on_two_densities_approaches_the_optimal_one() -> None:
    best = game_value(DATA, GENERATED, optimal_logits(DATA, GENERATED)).value
    snapshots = train_discriminator(DATA, GENERATED, steps=(0, 20, 80, 300))
    distances = [shot.distance for shot in snapshots]
    assert all(after < 0.8 * before for before, after in itertools.pairwise(distances))
    assert distances[-1] < 0.08
    values = [shot.value for shot in snapshots]
    assert values == sorted(values)
    assert values[-1] < best < values[-1] + 0.02


def test_the_bound_of_a_calibrated_discriminator_stays_below_the_exact_divergence_and_near_it() -> None:
    measurements = train_and_measure(steps=400)
    for each in measurements:
        assert each.calibrated.value <= each.exact + 4 * each.calibrated.standard_error
        assert each.raw.value <= each.exact + 4 * each.raw.standard_error
    trained = measurements[1:]
    gaps = [each.exact - each.calibrated.value for each in trained]
    assert max(gaps) < 0.05
    assert sum(gaps) < sum(each.exact - each.raw.value for each in trained)
    assert measurements[-1].exact < 0.75 * measurements[0].exact


def test_the_minimax_gradient_vanishes_while_the_discriminator_wins_and_the_other_does_not() -> None:
    early, late = watch_gradients(steps=(10, 300), seed=1)
    assert late.probability < 1e-3
    assert late.norms["minimax"] < 0.01 * early.norms["minimax"]
    assert late.norms["non-saturating"] > early.norms["non-saturating"]
