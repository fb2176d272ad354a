import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from service.numerics.calibration import (
    Calibration,
    bounds_from_terms,
    distance_from_uniform,
    false_discovery_level,
    least_level,
    surprise,
)
from service.numerics.noise import scoring_noise
from tests import toy

SURPRISES = hnp.arrays(np.float64, st.integers(1, 60), elements=st.integers(-9, 9).map(float))

BOTH_PRIORS = pytest.mark.parametrize("mixture", [False, True], ids=["standard normal", "mixture"])


@given(SURPRISES, SURPRISES)
def test_p_value_counts_calibration_items_at_least_as_surprising(
    calibrated: np.ndarray, new: np.ndarray
) -> None:
    expected = [(1 + np.sum(calibrated >= value)) / (len(calibrated) + 1) for value in new]
    np.testing.assert_allclose(Calibration(calibrated).p_values(new), expected)


@given(SURPRISES, SURPRISES, st.floats(0.001, 0.999))
def test_an_item_is_over_the_threshold_exactly_if_its_p_value_is_at_most_alpha(
    calibrated: np.ndarray, new: np.ndarray, alpha: float
) -> None:
    calibration, least = Calibration(calibrated), 1 / (len(calibrated) + 1)
    assert calibration.smallest_alpha == least
    if alpha < least:
        with pytest.raises(ValueError, match="at least"):
            calibration.threshold(alpha)
    else:
        over = new > calibration.threshold(alpha)
        np.testing.assert_array_equal(over, calibration.p_values(new) <= alpha + 1e-12)


def test_the_smallest_alpha_itself_is_allowed_also_as_it_is_written() -> None:
    for n in (1, 9, 48, 99, 128, 180, 999, 5000):
        calibration = Calibration(np.arange(n))
        assert calibration.threshold(1 / (n + 1)) == n - 1
        assert calibration.threshold(float(least_level(n))) == n - 1


@given(hnp.arrays(np.float64, st.integers(1, 40), elements=st.integers(1, 100).map(lambda k: k / 100)))
def test_a_corrected_level_is_the_largest_that_enough_p_values_reach(p_values: np.ndarray) -> None:
    level, m = false_discovery_level(p_values, 0.1), len(p_values)
    allowed = [0.1 * k / m for k in range(m + 1) if sum(p_values <= 0.1 * k / m + 1e-9) >= k]
    assert level == pytest.approx(max(allowed))
    assert false_discovery_level(p_values[:1], 0.1) == (0.1 if p_values[0] <= 0.1 else 0.0)


@example(calibrated=np.arange(98.0), new=np.array([999.0, 0.0]), rank=2, digits=9)
@given(SURPRISES, SURPRISES, st.integers(1, 60), st.integers(3, 12))
def test_a_corrected_level_flags_the_same_items_by_p_value_and_by_threshold(
    calibrated: np.ndarray, new: np.ndarray, rank: int, digits: int
) -> None:
    """Also where the level is a share of the calibration items that was rounded to some digits."""
    calibration = Calibration(calibrated)
    p_values, n = calibration.p_values(new), len(calibrated)
    alpha = min(round(rank / (n + 1), digits), 0.999)
    if level := false_discovery_level(p_values, alpha):
        np.testing.assert_array_equal(new > calibration.threshold(level), p_values <= level)


def test_the_correction_holds_the_share_of_false_discoveries_and_finds_outliers() -> None:
    random, alpha = np.random.default_rng(0), 0.1
    outlier = np.arange(200) < 40
    shares, found = [], []
    for _ in range(300):
        calibration = Calibration(random.normal(size=2000))
        p_values = calibration.p_values(np.where(outlier, 4.0, 0.0) + random.normal(size=200))
        flagged = p_values <= false_discovery_level(p_values, alpha)
        shares.append(np.sum(flagged & ~outlier) / max(1, flagged.sum()))
        found.append(np.mean(flagged[outlier]))
    assert np.mean(shares) - 3 * np.std(shares) / np.sqrt(300) <= alpha
    assert np.mean(found) > 0.8


def test_flagged_share_of_ordinary_items_follows_the_beta_binomial_law() -> None:
    random = np.random.default_rng(0)
    n, alpha = 499, 0.05
    calibration = Calibration(random.normal(size=n))
    flagged = np.sum(random.normal(size=10_000) > calibration.threshold(alpha))
    least = int(alpha * (n + 1))
    low, high = stats.betabinom(10_000, least, n + 1 - least).interval(0.999)
    assert low <= flagged <= high


def _toy_terms(inputs: np.ndarray, draws: int, *seeds: int, mixture: bool = False) -> tuple[np.ndarray, ...]:
    """The toy's score graph in numpy float64; its rows are all inputs with one seed after the other."""
    x = np.tile(inputs.reshape(len(inputs), -1).astype(np.float64), (len(seeds), 1))
    mean = x @ toy.ENCODER
    noise = [scoring_noise(seed, draws, toy.LATENT).astype(np.float64) for seed in seeds]
    eps = np.repeat(noise, len(inputs), axis=0)
    z = mean[:, None] + eps * np.exp(0.5 * toy.LOG_VARIANCE)
    logits = z @ toy.DECODER
    likelihood = (x[:, None] * logits - np.logaddexp(0, logits)).sum(-1)
    prior = toy.log_prior(z, mixture=mixture)
    posterior = stats.norm.logpdf(eps).sum(-1) - 0.5 * toy.LATENT * toy.LOG_VARIANCE
    exact = 0.5 * (mean**2 + np.exp(toy.LOG_VARIANCE) - 1 - toy.LOG_VARIANCE).sum(-1)
    kl = (posterior - prior).mean(axis=1) if mixture else exact
    return likelihood, prior, posterior, kl


def _toy_bounds(inputs: np.ndarray, draws: int, seeds: range, *, mixture: bool) -> dict[str, np.ndarray]:
    """Return the bounds by name, each (seeds, inputs)."""
    bounds = bounds_from_terms(*_toy_terms(inputs, draws, *seeds, mixture=mixture), analytic_kl=not mixture)
    return {name: values.reshape(len(seeds), -1) for name, values in bounds._asdict().items()}


@BOTH_PRIORS
def test_bounds_are_ordered_below_the_exact_evidence_in_expectation(mixture: bool) -> None:
    inputs = toy.items(6)
    exact = np.array([toy.exact_log_evidence(item, mixture=mixture) for item in inputs])
    few = _toy_bounds(inputs, 8, range(400), mixture=mixture)
    many = _toy_bounds(inputs, 64, range(400), mixture=mixture)["importance_bound"]
    assert (few["elbo"].mean(axis=0) < few["importance_bound"].mean(axis=0)).all()
    assert (few["importance_bound"].mean(axis=0) < many.mean(axis=0)).all()
    error = np.std(many, axis=0) / np.sqrt(len(many))
    assert (many.mean(axis=0) < exact + 4 * error).all()


@BOTH_PRIORS
def test_standard_error_is_the_spread_of_repeated_elbos(mixture: bool) -> None:
    runs = _toy_bounds(toy.items(4), 50, range(2000), mixture=mixture)
    reported = np.sqrt((runs["standard_error"] ** 2).mean(axis=0))
    np.testing.assert_allclose(reported, runs["elbo"].std(axis=0), rtol=0.1)


def test_the_importance_bounds_standard_error_is_the_spread_of_repeated_bounds() -> None:
    log_weights = np.random.default_rng(0).normal(size=(2000, 1000))
    none = np.zeros_like(log_weights)
    bounds = bounds_from_terms(log_weights, none, none, none[:, 0])
    reported = np.sqrt((bounds.importance_bound_standard_error**2).mean())
    assert reported == pytest.approx(bounds.importance_bound.std(), rel=0.1)
    assert reported == pytest.approx(math.sqrt((math.e - 1) / 1000), rel=0.1)  # log-normal weights
    assert np.median(bounds.effective_draws) == pytest.approx(1000 / math.e, rel=0.1)


def test_effective_draws_count_the_draws_that_share_the_weight() -> None:
    log_weights, none = np.full((3, 40), -90.0), np.zeros((3, 40))
    log_weights[1, :20] = -1e4
    log_weights[2, 1:] = -1e4
    bounds = bounds_from_terms(log_weights, none, none, np.zeros(3))
    np.testing.assert_allclose(bounds.effective_draws, [40, 20, 1])
    # half of the weights are 0: their variance is the square of their mean
    np.testing.assert_allclose(bounds.importance_bound_standard_error, [0, 39**-0.5, np.nan])


@pytest.mark.parametrize("draws", [1, 3, 64])
def test_effective_draws_are_no_more_than_the_draws_that_were_made(draws: int) -> None:
    nearly_equal = 1e-9 * np.random.default_rng(0).normal(size=(1000, draws))
    none = np.zeros_like(nearly_equal)
    bounds = bounds_from_terms(nearly_equal, none, none, np.zeros(1000))
    assert ((bounds.effective_draws >= 1) & (bounds.effective_draws <= draws)).all()


@pytest.mark.parametrize(("draws", "needed"), [(20, 10), (200, 20)])
def test_a_bound_of_few_effective_draws_has_no_standard_error(draws: int, needed: int) -> None:
    log_weights, none = np.full((2, draws), -1e4), np.zeros((2, draws))
    log_weights[0, :needed] = log_weights[1, 1:needed] = 0.0
    bounds = bounds_from_terms(log_weights, none, none, np.zeros(2))
    assert np.isnan(bounds.importance_bound_standard_error).tolist() == [False, True]


def test_the_likelihoods_spread_alone_is_not_the_error_of_an_elbo_under_a_mixture() -> None:
    terms = _toy_terms(toy.items(4), 5000, 0, mixture=True)
    right, wrong = bounds_from_terms(*terms, analytic_kl=False), bounds_from_terms(*terms)
    np.testing.assert_allclose(right.elbo, wrong.elbo)
    assert (np.abs(right.standard_error / wrong.standard_error - 1) > 0.2).any()


def test_a_single_draw_has_no_standard_error() -> None:
    bounds = bounds_from_terms(*_toy_terms(toy.items(3), 1, 0))
    assert np.isnan([bounds.standard_error, bounds.importance_bound_standard_error]).all()
    assert (bounds.effective_draws == 1).all()
    np.testing.assert_allclose(bounds.elbo, bounds.expected_log_likelihood - bounds.kl)


def test_importance_bound_survives_enormous_log_weights() -> None:
    terms = np.array([[-90_000.0, -90_001.0]])
    bounds = bounds_from_terms(terms, np.zeros((1, 2)), np.zeros((1, 2)), np.zeros(1))
    assert -90_001 < bounds.importance_bound[0] < -90_000
    assert surprise(bounds, "importance_bound")[0] == -bounds.importance_bound[0]


@pytest.mark.parametrize("n", [89, 1000, 5000])
def test_p_values_of_ordinary_items_are_as_far_from_uniform_as_two_samples_from_each_other(n: int) -> None:
    """One time in twenty farther than Smirnov's bound; 600 trials have a standard error of 0.9 %."""
    random, count, trials = np.random.default_rng(0), 1000, 600
    distances = [
        distance_from_uniform(Calibration(random.normal(size=n)).p_values(random.normal(size=count)).tolist())
        for _ in range(trials)
    ]
    over = np.mean(np.array(distances) > 1.36 * np.sqrt(1 / count + 1 / n))
    assert 0.015 < over < 0.085
