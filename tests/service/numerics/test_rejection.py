from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from service.numerics.noise import Doubles
from service.numerics.rejection import (
    Selection,
    effective_sample_sizes,
    metropolis,
    rejection,
    resampling,
)

MEAN, DEVIATION = 0.8, 0.6
"""The target, a Gaussian; proposals are standard normal."""
PLACE = MEAN / (1 - DEVIATION**2)
LARGEST = float(stats.norm.logpdf(PLACE, MEAN, DEVIATION) - stats.norm.logpdf(PLACE))


def log_ratio(points: Doubles) -> Doubles:
    ratio: Doubles = stats.norm.logpdf(points, MEAN, DEVIATION) - stats.norm.logpdf(points)
    return ratio


def proposals(outputs: int, budget: int, seed: int = 0) -> tuple[Doubles, Doubles]:
    """Proposals and uniforms, each (outputs, budget)."""
    random = np.random.default_rng(seed)
    return random.normal(size=(outputs, budget)), random.random((outputs, budget))


def starts(outputs: int, seed: int = 1) -> Doubles:
    return log_ratio(np.random.default_rng(seed).normal(MEAN, DEVIATION, outputs))


def p_value(points: Doubles) -> float:
    """Return the p-value of a chi-square test of points against the target, in 20 equal cells."""
    edges = stats.norm.ppf(np.linspace(0, 1, 21)[1:-1], MEAN, DEVIATION)
    return float(stats.chisquare(np.bincount(np.searchsorted(edges, points), minlength=20)).pvalue)


def kept(points: Doubles, selection: Selection) -> Doubles:
    """Return the chosen points among (B, K), for the outputs that are filled."""
    chosen: Doubles = points[np.arange(len(points)), selection.chosen][selection.filled]
    return chosen


def test_what_rejection_accepts_follows_the_target_exactly_and_proposals_do_not() -> None:
    points, uniforms = proposals(40_000, 4)
    selection = rejection(log_ratio(points), uniforms, LARGEST)
    assert 0.05 < 1 - selection.filled.mean() < 0.5
    assert p_value(kept(points, selection)) > 1e-3
    assert p_value(points[:, 0]) < 1e-9


def test_rejection_accepts_one_in_exp_largest() -> None:
    points, uniforms = proposals(5_000, 20)
    rate = rejection(log_ratio(points), uniforms, LARGEST).accepted.mean() / 20
    assert rate == pytest.approx(np.exp(-LARGEST), abs=4 * np.sqrt(0.25 / 100_000))


def test_a_chain_from_a_real_item_follows_the_target() -> None:
    points, uniforms = proposals(20_000, 32)
    selection = metropolis(log_ratio(points), uniforms, starts(len(points)))
    assert selection.filled.mean() > 0.999
    assert p_value(kept(points, selection)) > 1e-3


def test_a_single_step_keeps_a_real_item_or_takes_a_proposal_so_that_the_target_stays() -> None:
    random = np.random.default_rng(5)
    real = random.normal(MEAN, DEVIATION, 40_000)
    points, uniforms = proposals(len(real), 1)
    selection = metropolis(log_ratio(points), uniforms, log_ratio(real))
    assert 0.1 < selection.filled.mean() < 0.9
    assert p_value(np.where(selection.filled, points[:, 0], real)) > 1e-3


def test_a_chain_from_elsewhere_has_the_target_as_its_limit_only() -> None:
    points, uniforms = proposals(20_000, 64)
    wrong = np.full(len(points), log_ratio(np.array([-3.0]))[0])
    early, late = (
        metropolis(log_ratio(points[:, :budget]), uniforms[:, :budget], wrong) for budget in (1, 64)
    )
    assert p_value(kept(points, early)) < 1e-9
    assert p_value(kept(points, late)) > 1e-3


@pytest.mark.slow
def test_the_error_of_resampling_falls_as_its_budget_grows() -> None:
    errors = []
    for budget in (1, 4, 16, 64):
        points, uniforms = proposals(20_000, budget)
        selection = resampling(log_ratio(points), uniforms)
        assert selection.filled.all()
        law = stats.norm(MEAN, DEVIATION).cdf
        errors.append(stats.kstest(kept(points, selection), law).statistic)
    assert errors[0] > 2 * errors[1] > 4 * errors[2] > 4 * errors[3]


def test_resampling_takes_each_proposal_by_its_share_of_the_weights() -> None:
    logits = np.tile(np.log([0.5, 0.3, 0.2]) + 7, (30_000, 1))
    uniforms = np.random.default_rng(0).random(logits.shape)
    counts = np.bincount(resampling(logits, uniforms).chosen, minlength=3)
    assert stats.chisquare(counts, len(logits) * np.array([0.5, 0.3, 0.2])).pvalue > 1e-3


LOGITS = st.lists(st.integers(-64, 64), min_size=1, max_size=12)


@given(LOGITS, st.integers(-32, 32), st.integers(0, 2**32))
def test_a_constant_added_to_all_logits_changes_nothing(quarters: list[int], shift: int, seed: int) -> None:
    logits = np.array([quarters], np.float32) / 4  # sums of quarters are exact
    uniforms = np.random.default_rng(seed).random(logits.shape)
    start = logits[:, 0]
    for plain, shifted in (
        (resampling(logits, uniforms), resampling(logits + shift, uniforms)),
        (metropolis(logits, uniforms, start), metropolis(logits + shift, uniforms, start + shift)),
        (rejection(logits, uniforms, 3.0), rejection(logits + shift, uniforms, 3.0 + shift)),
    ):
        for one, other in zip(plain, shifted, strict=True):
            np.testing.assert_array_equal(one, other)


@given(LOGITS, st.integers(0, 2**32))
def test_outputs_are_chosen_apart(quarters: list[int], seed: int) -> None:
    random = np.random.default_rng(seed)
    logits = np.stack([random.permutation(quarters) for _ in range(5)]) / 4.0
    uniforms, first = random.random(logits.shape), random.permutation(logits[:, 0])
    order = random.permutation(5)
    rules: list[Callable[[NDArray[np.intp]], Selection]] = [
        lambda rows: rejection(logits[rows], uniforms[rows], 1.0),
        lambda rows: resampling(logits[rows], uniforms[rows]),
        lambda rows: metropolis(logits[rows], uniforms[rows], first[rows]),
    ]
    for rule in rules:
        whole, shuffled = rule(np.arange(5)), rule(order)
        for one, other in zip(whole, shuffled, strict=True):
            np.testing.assert_array_equal(one[order], other)


def test_the_first_acceptance_counts_for_rejection_and_the_last_for_a_chain() -> None:
    logits = np.zeros((1, 4))
    uniforms = np.array([[0.9, 0.2, 0.9, 0.3]])
    first = rejection(logits, uniforms, np.log(2.0))
    assert (first.chosen.tolist(), first.accepted.tolist()) == ([1], [2])
    last = metropolis(logits - [[0, 1, 0, 9]], uniforms, np.zeros(1))
    assert (last.chosen.tolist(), last.accepted.tolist()) == ([2], [3])


def test_where_nothing_is_accepted_the_largest_logit_is_chosen_and_the_output_is_unfilled() -> None:
    logits = np.array([[-9.0, -5.0, -7.0], [0.0, -9.0, -9.0]])
    uniforms = np.full_like(logits, 0.5)
    for selection in (rejection(logits, uniforms, 0.0), metropolis(logits, uniforms, np.zeros(2))):
        assert selection.filled.tolist() == [False, True]
        assert selection.chosen.tolist() == [1, 0]
        assert selection.accepted.tolist() == [0, 1]


def test_logits_above_the_largest_count_as_it() -> None:
    uniforms = np.full((1, 2), 1 - 2.0**-24)
    assert rejection(np.array([[50.0, 3.0]]), uniforms, 3.0).accepted.tolist() == [2]


def test_extreme_logits_and_uniforms_give_a_choice_without_a_warning() -> None:
    logits = np.array([[-3e38, 3e38, 0.0]], np.float32)
    for uniform in (2.0**-24, 1 - 2.0**-24):
        uniforms = np.full((1, 3), uniform, np.float32)
        assert rejection(logits, uniforms, 1.0).chosen.tolist() == [1]
        assert resampling(logits, uniforms).chosen.tolist() == [1]
        assert metropolis(logits, uniforms, np.zeros(1, np.float32)).chosen.tolist() == [1]
        assert effective_sample_sizes(logits).tolist() == [1.0]


def test_equal_weights_are_worth_all_proposals_and_a_single_large_one_is_worth_one() -> None:
    logits = np.array([[3.0, 3.0, 3.0, 3.0], [100.0, 0.0, 0.0, 0.0], [0.0, 0.0, -900.0, -900.0]])
    np.testing.assert_allclose(effective_sample_sizes(logits), [4, 1, 2])
