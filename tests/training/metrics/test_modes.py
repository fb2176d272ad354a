"""Samples against a known mixture: the mixture itself reaches the ceiling, and every defect is seen."""

import math

import numpy as np
import numpy.typing as npt
import pytest

from training.metrics.modes import (
    high_quality_ceiling,
    measure_modes,
    reverse_kl_floor,
    truncated_deviation_ratio,
)

DEVIATION = 0.05
CENTRES = np.stack(np.meshgrid(np.arange(-4.0, 5, 2), np.arange(-4.0, 5, 2)), axis=-1).reshape(-1, 2)
ROWS = 20_000


def drawn(
    weights: npt.NDArray[np.float64] | None = None, scale: float = 1.0, seed: int = 0
) -> npt.NDArray[np.float32]:
    """Samples of the grid, its modes weighted, their standard deviations scaled."""
    random = np.random.default_rng(seed)
    modes = random.choice(len(CENTRES), ROWS, p=weights)
    points = CENTRES[modes] + scale * DEVIATION * random.standard_normal((ROWS, 2))
    return points.astype(np.float32)


def test_the_mixture_itself_reaches_the_ceiling_the_floor_and_the_ratio() -> None:
    report = measure_modes(drawn(), CENTRES, DEVIATION)
    ceiling = high_quality_ceiling()
    assert report.modes_captured == report.modes == 25
    assert abs(report.high_quality_share - ceiling) < 3 * math.sqrt(ceiling * (1 - ceiling) / ROWS)
    # about 800 samples of two coordinates a mode: each ratio is uncertain by a fortieth
    assert abs(report.deviation_ratio - truncated_deviation_ratio()) < 3 / math.sqrt(4 * ROWS)
    assert 0.9 < report.least_deviation_ratio < report.deviation_ratio < report.largest_deviation_ratio < 1.05


def test_the_floor_is_the_mean_reverse_kl_of_the_mixture_itself() -> None:
    reports = [measure_modes(drawn(seed=seed), CENTRES, DEVIATION) for seed in range(40)]
    values = [report.reverse_kl for report in reports]
    error = np.std(values, ddof=1) / math.sqrt(len(values))
    floor = reverse_kl_floor(25, round(high_quality_ceiling() * ROWS))
    assert abs(np.mean(values) - floor) < 3 * error
    assert np.std(values, ddof=1) == pytest.approx(math.sqrt(2 / 24) * floor, rel=0.4)
    told = np.mean([report.reverse_kl_error for report in reports])
    assert told == pytest.approx(math.sqrt(2 / 24) * floor, rel=0.25)


def test_the_truncated_ratio_is_what_a_truncated_gaussian_shows() -> None:
    points = np.random.default_rng(1).standard_normal((200_000, 2))
    kept = points[np.linalg.norm(points, axis=1) <= 3]
    assert kept.std() == pytest.approx(truncated_deviation_ratio(), abs=3 / math.sqrt(2 * kept.size))


@pytest.mark.parametrize("scale", [0.1, 0.3])
def test_a_shrunken_sampler_shows_its_ratio(scale: float) -> None:
    report = measure_modes(drawn(scale=scale), CENTRES, DEVIATION)
    assert report.high_quality_share == 1.0
    assert report.deviation_ratio == pytest.approx(scale, rel=0.02)


def test_missing_modes_are_found_out_and_cost_the_log_of_their_share() -> None:
    weights = np.where(np.arange(25) < 5, 0, 1 / 20)
    report = measure_modes(drawn(weights), CENTRES, DEVIATION)
    assert report.modes_captured == 20
    assert report.reverse_kl == pytest.approx(math.log(25 / 20) + reverse_kl_floor(20, ROWS), abs=1e-3)


def test_a_mode_of_double_weight_gives_the_analytic_divergence() -> None:
    weights = np.full(25, 1 / 26)
    weights[7] = 2 / 26
    exact = math.log(25) + float((weights * np.log(weights)).sum())
    report = measure_modes(drawn(weights), CENTRES, DEVIATION)
    # the delta method: KL varies as the mean of log w does
    spread = math.sqrt(float((weights * np.log(weights) ** 2).sum()) - (exact - math.log(25)) ** 2)
    assert abs(report.reverse_kl - exact - reverse_kl_floor(25, ROWS)) < 3 * spread / math.sqrt(ROWS)


def test_samples_far_from_every_mode_are_of_no_quality_and_capture_nothing() -> None:
    report = measure_modes(np.full((10, 2), 1.0), CENTRES, DEVIATION)
    assert (report.modes_captured, report.high_quality_share) == (0, 0.0)
    assert report.reverse_kl == pytest.approx(math.log(25))
    assert math.isnan(report.deviation_ratio)


@pytest.mark.parametrize(
    ("samples", "centres", "deviation"),
    [(np.zeros((4, 3)), CENTRES, 0.1), (np.zeros((0, 2)), CENTRES, 0.1), (np.zeros((4, 2)), CENTRES, 0.0)],
)
def test_what_cannot_be_measured_is_refused(
    samples: npt.NDArray[np.float64], centres: npt.NDArray[np.float64], deviation: float
) -> None:
    with pytest.raises(ValueError, match="wanted"):
        measure_modes(samples, centres, deviation)
