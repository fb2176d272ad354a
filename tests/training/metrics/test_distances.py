"""Distances of features and of classes: what theory knows, and nothing where there is no difference."""

import math

import numpy as np
import numpy.typing as npt
import pytest
from scipy.linalg import sqrtm

from training.metrics.classes import class_divergence, class_divergence_floor
from training.metrics.distances import SUBSET_ROWS, frechet_distance, kernel_distance

Points = npt.NDArray[np.float64]


def normal(rows: int, features: int, seed: int) -> Points:
    return np.random.default_rng(seed).standard_normal((rows, features))


def seeded() -> np.random.Generator:
    return np.random.default_rng(0)


def test_the_frechet_distance_is_that_of_its_definition() -> None:
    real = normal(300, 5, 0) @ normal(5, 5, 1)
    generated = normal(400, 5, 2) @ normal(5, 5, 3) + 1
    c, d = np.cov(real, rowvar=False), np.cov(generated, rowvar=False)
    gap = real.mean(0) - generated.mean(0)
    exact = gap @ gap + np.trace(c + d - 2 * sqrtm(c @ d).real)
    assert frechet_distance(real, generated, seeded()).value == pytest.approx(exact)


def test_the_frechet_distance_is_symmetric_and_none_to_itself() -> None:
    real, generated = normal(200, 3, 0), 2 * normal(200, 3, 1)
    there, back = (frechet_distance(*pair, seeded()).value for pair in ((real, generated), (generated, real)))
    assert there == pytest.approx(back)
    assert frechet_distance(real, real, seeded()).value == pytest.approx(0, abs=1e-6)


def test_features_that_do_not_vary_are_no_obstacle() -> None:
    real, generated = normal(200, 4, 0) * [1, 1, 0, 0], normal(200, 4, 1) * [1, 1, 0, 0]
    assert math.isfinite(frechet_distance(real, generated, seeded()).value)


def test_the_frechet_distance_of_shifted_gaussians_is_the_squared_shift_within_its_error() -> None:
    real, generated = normal(4000, 3, 0), normal(4000, 3, 1) + np.array([1, 0, 0])
    estimate = frechet_distance(real, generated, seeded())
    assert abs(estimate.value - 1) < 3 * estimate.standard_error
    # the squared shift varies as 2 times the mean's gap, whose variance is 2 / N
    assert estimate.standard_error == pytest.approx(2 * math.sqrt(2 / 4000), rel=0.3)


def test_the_kernel_distance_is_unbiased_and_its_error_is_the_spread_of_repetitions() -> None:
    estimates = [
        kernel_distance(normal(2 * SUBSET_ROWS, 4, seed), normal(2 * SUBSET_ROWS, 4, 100 + seed), seeded())
        for seed in range(12)
    ]
    values = np.array([estimate.value for estimate in estimates])
    assert abs(values.mean()) < 3.5 * values.std(ddof=1) / math.sqrt(len(values))
    assert (values < 0).any()
    typical = math.sqrt(np.mean([estimate.standard_error**2 for estimate in estimates]))
    assert 0.4 < typical / values.std(ddof=1) < 2.5


def test_the_kernel_distance_of_other_means_is_the_known_one() -> None:
    # one feature: k(x, y) = (x y + 1)^3, so with x ~ N(0, 1) and y ~ N(m, 1) the moments give it exactly
    shift = 1.0
    first, second = (0.0, 1.0, 0.0), (shift, shift**2 + 1, shift**3 + 3 * shift)
    exact = sum(c * (a - b) ** 2 for c, a, b in zip((3, 3, 1), first, second, strict=True))
    estimate = kernel_distance(normal(5000, 1, 0), normal(5000, 1, 1) + shift, seeded())
    assert abs(estimate.value - exact) < 3.5 * estimate.standard_error


def test_the_kernel_distance_needs_two_subsets() -> None:
    with pytest.raises(ValueError, match="at least 2000"):
        kernel_distance(normal(1999, 2, 0), normal(5000, 2, 1), seeded())


def test_equal_classes_diverge_by_the_floor_on_average() -> None:
    random, shares = seeded(), np.full(10, 0.1)
    values = [
        class_divergence(random.multinomial(4000, shares), random.multinomial(2000, shares), random).value
        for _ in range(60)
    ]
    floor = class_divergence_floor(10, 4000, 2000)
    assert abs(np.mean(values) - floor) < 3.5 * np.std(values, ddof=1) / math.sqrt(len(values))


def test_a_class_twice_as_frequent_diverges_as_theory_says() -> None:
    p, q = np.array([0.5, 0.25, 0.25]), np.full(3, 1 / 3)
    random = seeded()
    estimate = class_divergence(random.multinomial(20_000, q), random.multinomial(20_000, p), random)
    assert abs(estimate.value - float((p * np.log(p / q)).sum())) < 3.5 * estimate.standard_error


def test_a_missing_class_costs_the_log_of_the_others_share_and_an_unreal_one_is_refused() -> None:
    divergence = class_divergence(np.array([500, 500]), np.array([1000, 0]), seeded())
    assert divergence.value == pytest.approx(math.log(2))
    with pytest.raises(ValueError, match="every class"):
        class_divergence(np.array([1000, 0]), np.array([500, 500]), seeded())
