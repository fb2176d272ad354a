"""Platt scaling: it undoes a known distortion, and its figures tell calibrated logits from others."""

import pytest
import torch
from scipy import stats
from torch import Tensor

from training.metrics.platt import Platt, calibration_z, expected_calibration_error, fit_platt, reliability

REAL, FAKE = stats.norm(0, 1), stats.norm(1.5, 0.7)


def exact_logits(real_rows: int, fake_rows: int, seed: int) -> tuple[Tensor, Tensor]:
    """Log density ratios of fresh items of both kinds."""
    real = REAL.rvs(real_rows, random_state=seed)
    fake = FAKE.rvs(fake_rows, random_state=seed + 1_000_000)
    return tuple(torch.as_tensor(REAL.logpdf(x) - FAKE.logpdf(x)) for x in (real, fake))  # type: ignore[return-value]


@pytest.mark.parametrize(("slope", "shift"), [(3.0, -1.0), (0.2, 5.0), (1e4, 1e6)])
def test_calibration_undoes_a_known_distortion_whatever_the_numbers_of_rows(
    slope: float, shift: float
) -> None:
    real, fake = exact_logits(10_000, 40_000, seed=0)
    fitted = fit_platt(slope * real + shift, slope * fake + shift)
    assert fitted.slope * slope == pytest.approx(1, abs=0.06)
    assert fitted(torch.tensor(shift, dtype=torch.float64)).item() == pytest.approx(0, abs=0.06)


def test_the_fit_maximises_the_likelihood_of_the_even_mixture() -> None:
    real, fake = exact_logits(3000, 500, seed=3)

    def loss(fitted: Platt) -> float:
        logits = fitted(real), -fitted(fake)
        targets = [1 - 1 / (2 + len(each)) for each in logits]
        parts = [
            -target * each.sigmoid().log().mean() - (1 - target) * (-each).sigmoid().log().mean()
            for each, target in zip(logits, targets, strict=True)
        ]
        return float(sum(parts))

    fitted = fit_platt(real, fake)
    for slope, intercept in ((0.01, 0), (-0.01, 0), (0, 0.01), (0, -0.01)):
        assert loss(fitted) < loss(Platt(fitted.slope + slope, fitted.intercept + intercept))


def test_a_discriminator_that_is_no_better_than_chance_is_told_so() -> None:
    real, fake = exact_logits(1000, 1000, seed=5)
    assert fit_platt(-real, -fake) == Platt(0, 0)
    assert fit_platt(torch.full((5,), 0.1), torch.full((9,), 0.1)) == Platt(0, 0)


def test_logits_that_tell_all_rows_apart_are_calibrated_to_the_odds_that_so_many_rows_allow() -> None:
    fitted = fit_platt(torch.full((98,), 1000.0), torch.full((48,), -1000.0))
    assert torch.sigmoid(fitted(torch.tensor(1000.0, dtype=torch.float64))).item() == pytest.approx(0.99)
    assert torch.sigmoid(fitted(torch.tensor(-1000.0, dtype=torch.float64))).item() == pytest.approx(0.02)


def test_z_is_no_larger_than_standard_normal_for_calibrated_logits_and_large_for_others() -> None:
    values = []
    for seed in range(100):
        real_rows = int(stats.binom(400, 0.5).rvs(random_state=seed))
        values.append(calibration_z(*exact_logits(real_rows, 400 - real_rows, seed)))
    assert abs(sum(values) / len(values)) < 4 / len(values) ** 0.5
    assert sum(abs(value) > 2.58 for value in values) < 0.03 * len(values)
    real, fake = exact_logits(5000, 5000, seed=7)
    assert abs(calibration_z(real + 0.5, fake + 0.5)) > 5


def test_after_fitting_fresh_rows_are_calibrated() -> None:
    fitted = fit_platt(*(3 * logits - 1 for logits in exact_logits(20_000, 20_000, seed=11)))
    real, fake = (3 * logits - 1 for logits in exact_logits(20_000, 20_000, seed=12))
    assert abs(calibration_z(fitted(real), fitted(fake))) < 3
    assert abs(calibration_z(real, fake)) > 10
    assert expected_calibration_error(fitted(real), fitted(fake)) < 0.01
    assert expected_calibration_error(real, fake) > 0.05


def test_the_bins_hold_every_row_once_and_the_whole_mixture() -> None:
    real, fake = exact_logits(700, 2000, seed=13)
    rows = reliability(real, fake, bins=7)
    assert sum(row.rows for row in rows) == 2700
    assert sum(row.mass for row in rows) == pytest.approx(1)
    assert sum(row.mass * row.observed for row in rows) == pytest.approx(0.5)
    assert [row.predicted for row in rows] == sorted(row.predicted for row in rows)
    assert all(abs(row.predicted - row.observed) < 0.1 for row in rows)


@pytest.mark.parametrize("function", [fit_platt, reliability, calibration_z])
def test_one_class_or_a_logit_that_is_no_number_is_refused(function: object) -> None:
    assert callable(function)
    with pytest.raises(ValueError, match="0 generated"):
        function(torch.zeros(3), torch.zeros(0))
    with pytest.raises(ValueError, match="1 are not"):
        function(torch.zeros(3), torch.tensor([0.0, float("inf")]))
