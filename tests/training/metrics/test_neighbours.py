"""Figures by nearest neighbours: exact means for equal distributions; each defect moves its own figure."""

import math

import numpy as np
import numpy.typing as npt
import pytest
from scipy.spatial.distance import cdist

from training.metrics.neighbours import Comparison, K, compare, nearer_to_training, same_kind

Points = npt.NDArray[np.float64]


def compared(real: Points, generated: Points) -> Comparison:
    return compare(same_kind(real), same_kind(generated))


def normal(rows: int, features: int, seed: int) -> Points:
    return np.random.default_rng(seed).standard_normal((rows, features))


@pytest.mark.parametrize(("rows", "features"), [(60, 2), (1600, 3)])  # the latter takes more than one block
def test_the_figures_are_those_of_their_definitions(rows: int, features: int) -> None:
    real, generated = normal(rows, features, 0), 0.7 * normal(rows - 20, features, 1)
    ours = compared(real, generated)
    among_real, among_generated = np.sort(cdist(real, real)), np.sort(cdist(generated, generated))
    across = cdist(real, generated)
    in_real_ball = across <= among_real[:, [K]]
    assert np.array_equal(ours.precision, in_real_ball.any(0))
    assert np.array_equal(ours.recall, (across <= among_generated[:, K]).any(1))
    assert np.array_equal(ours.density, in_real_ball.sum(0) / K)
    assert np.array_equal(ours.coverage, across.min(1) <= among_real[:, K])
    assert np.array_equal(ours.real_recognised, among_real[:, 1] < across.min(1))
    assert np.array_equal(ours.generated_recognised, among_generated[:, 1] < across.min(0))


@pytest.mark.parametrize("features", [1, 2, 50])
def test_equal_distributions_have_the_exact_means_in_any_dimension(features: int) -> None:
    rows, repeats = 200, 40
    figures = np.array(
        [
            [
                values.mean()
                for values in compared(normal(rows, features, seed), normal(rows, features, 1000 + seed))
            ]
            for seed in range(repeats)
        ]
    )
    errors = figures.std(0, ddof=1) / math.sqrt(repeats)
    _, _, density, coverage, real_recognised, generated_recognised = range(6)
    # the k nearest of 2 N - 1 others are all real with probability prod (N - i) / (2 N - i)
    uncovered = math.prod((rows - i) / (2 * rows - i) for i in range(1, K + 1))
    recognised = (rows - 1) / (2 * rows - 1)
    for figure, exact in (
        (density, 1.0),
        (coverage, 1 - uncovered),
        (real_recognised, recognised),
        (generated_recognised, recognised),
    ):
        assert abs(figures[:, figure].mean() - exact) < 3.5 * errors[figure]


def test_a_missing_half_costs_recall_and_coverage_but_no_precision() -> None:
    real = normal(1000, 4, 0)
    real[:500] += 100
    generated = normal(1000, 4, 1)
    figures = [values.mean() for values in compared(real, generated)]
    precision, recall, _, coverage, _, _ = figures
    assert precision > 0.9
    assert recall == pytest.approx(0.5, abs=0.05)
    assert coverage == pytest.approx(0.5, abs=0.05)


def test_items_that_nothing_real_resembles_cost_precision_but_no_recall() -> None:
    real, generated = normal(1000, 4, 0), normal(2000, 4, 1)
    generated[:1000] += 100
    ours = compared(real, generated)
    assert ours.precision.mean() == pytest.approx(0.5, abs=0.05)
    assert ours.recall.mean() > 0.9
    assert not ours.precision[:1000].any()
    assert ours.generated_recognised[:1000].all()


def test_copies_are_taken_for_real_and_hide_the_real_items_they_copy() -> None:
    real = normal(500, 4, 0)
    ours = compared(real, real + 1e-6)
    assert ours.real_recognised.mean() == ours.generated_recognised.mean() == 0.0
    assert ours.coverage.mean() == ours.precision.mean() == 1.0


def test_a_tie_counts_half() -> None:
    real = np.stack([2 * np.arange(8.0), np.zeros(8)], axis=1)
    ours = compared(real, real + np.array([0.0, 2.0]))
    assert set(ours.real_recognised) == set(ours.generated_recognised) == {0.5}


@pytest.mark.parametrize("copied", [0.0, 0.5, 1.0])
def test_the_share_nearer_to_training_items_is_half_if_fair_and_grows_with_what_is_copied(
    copied: float,
) -> None:
    rows = 1500
    training, test, samples = (normal(rows, 8, seed) for seed in (0, 1, 2))
    repeats = int(copied * rows)
    samples[:repeats] = training[:repeats] + 1e-3
    share = nearer_to_training(samples, training, test).mean()
    assert share == pytest.approx(copied + (1 - copied) / 2, abs=0.05)


def test_a_sample_as_near_to_training_as_to_test_items_counts_half() -> None:
    items, further = normal(50, 2, 0), normal(50, 2, 1) + 100
    assert (nearer_to_training(items, items, items[::-1]) == 0.5).all()
    assert (nearer_to_training(items, items, further) == 1).all()
    assert (nearer_to_training(items, further, items) == 0).all()


def test_too_few_or_unequally_many_items_are_refused() -> None:
    with pytest.raises(ValueError, match="more than k"):
        same_kind(normal(K, 2, 0))
    with pytest.raises(ValueError, match="equally many"):
        nearer_to_training(normal(5, 2, 0), normal(5, 2, 1), normal(4, 2, 2))


@pytest.mark.slow
def test_ten_thousand_normals_in_a_thousand_dimensions_have_the_published_figures() -> None:
    """The code of Naeem et al. gives precision 0.477, recall 0.471, density 1.056, coverage 0.974."""
    ours = compared(normal(10_000, 1000, 0), normal(10_000, 1000, 1))
    # few points near the origin lie in most balls, hence the wide margins
    assert ours.precision.mean() == pytest.approx(0.477, abs=0.05)
    assert ours.recall.mean() == pytest.approx(0.471, abs=0.05)
    assert ours.density.mean() == pytest.approx(1.056, abs=0.25)
    assert ours.coverage.mean() == pytest.approx(0.974, abs=0.03)
