"""The soak's judgement of memory."""

import numpy as np
import pytest

from tests.soak.readings import Reading, slope_of


def rounds(percent: float, noise_megabytes: float) -> list[list[Reading]]:
    """Ten minutes of a process of 200 MB that grows by so much in ten minutes."""
    random = np.random.default_rng(0)
    seconds = np.arange(0, 600, 0.5)
    megabytes = 200 * (1 + percent / 100 * seconds / 600) + random.normal(0, noise_megabytes, len(seconds))
    readings = [Reading(*pair, 40) for pair in zip(seconds, megabytes, strict=True)]
    return [readings[start : start + 120] for start in range(0, len(readings), 120)]


@pytest.mark.parametrize(("percent", "exceeds"), [(0.0, False), (0.5, False), (2.0, True), (-3.0, False)])
def test_a_slope_is_told_from_noise(percent: float, exceeds: bool) -> None:
    slope = slope_of(rounds(percent, noise_megabytes=2))
    assert abs(slope.percent - percent) < 4 * slope.error
    assert slope.exceeds is exceeds
