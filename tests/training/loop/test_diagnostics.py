"""Laws of the troubles that a run's log shows: each is reported at its place, and a healthy run has none."""

import math
from typing import Any

import pytest

from service.format.manifest import Support
from service.format.specs import Metric
from training.loop.diagnostics import coding_finding, diagnose


def log(**series: list[float]) -> list[dict[str, Any]]:
    """A log with a line every ten steps for each quantity."""
    return [
        {"step": 10 * (place + 1), name: value}
        for name, values in series.items()
        for place, value in enumerate(values)
    ]


def troubles(**series: list[float]) -> list[str]:
    return [each.trouble for each in diagnose(log(**series), "elbo", calibrated=True)]


RISING = [float(value) for value in range(-100, 0, 10)]


def test_a_bound_that_falls_on_held_out_items_and_rises_on_training_items_is_overfitting() -> None:
    fallen = [-100.0, -60, -50, -55, -60, -65, -70, -75, -80, -85]
    (finding,) = diagnose(log(elbo=RISING, validation_elbo=fallen), "elbo")
    assert finding.trouble == "overfitting"
    assert "since step 30, from -50.0 to -85.0 nats per item" in finding.text


@pytest.mark.parametrize(
    ("training", "held_out"),
    [
        (RISING, RISING),
        (RISING, [-100.0, -60, -50, -50.2, -50.1, -50.3]),  # it stays where it is
        (RISING, [-100.0, -60, -50, -70, -80, -49]),  # it came back
        ([-10.0] * 10, [-100.0, -60, -50, -55, -60, -65]),  # nothing is learned by heart
        (RISING, [-50.0, -60, -70]),  # too short to tell
        ([], []),
    ],
)
def test_a_run_that_learns_or_has_learned_has_no_trouble(
    training: list[float], held_out: list[float]
) -> None:
    assert troubles(elbo=training, validation_elbo=held_out) == []


def test_a_discriminator_that_is_never_wrong_any_more_has_won() -> None:
    never_wrong = [0.3, 0.69, 0.69, 0.69]
    assert troubles(validation_jsd_bound=never_wrong) == ["discriminator wins"]
    assert troubles(validation_jsd_bound=[0.69, 0.69, 0.69, 0.3]) == []
    assert diagnose(log(validation_jsd_bound=never_wrong), None) == []  # its logits mean something else


def test_a_generator_without_gradients_no_longer_learns() -> None:
    assert troubles(generator_gradient_norm=[1.0] * 7 + [1e-5] * 3) == ["gradients vanish"]
    assert troubles(generator_gradient_norm=[1.0] * 7 + [1e-5, 1.0, 1e-5]) == []


def test_modes_that_are_left_out_again_are_lost() -> None:
    (finding,) = diagnose(log(validation_modes_captured=[3.0, 8.0, 6.0]), None)
    assert finding.text.startswith("6 modes are left of the 8")
    assert troubles(validation_classes=[3.0, 10.0, 10.0]) == []
    assert troubles(validation_distance_ratio=[0.9, 0.2, 0.2, 0.2]) == ["modes lost"]
    assert troubles(validation_distance_ratio=[0.1, 0.2, 0.9]) == []


def test_numbers_that_are_not_finite_are_no_signs() -> None:
    assert troubles(validation_distance_ratio=[math.nan] * 4, validation_jsd_bound=[math.inf] * 4) == []


@pytest.mark.parametrize(
    ("support", "name", "bad", "good"),
    [
        ("eight_bit", "bits_per_dimension", 8.2, 7.9),
        ("binary", "bits_per_dimension", 1.01, 0.99),
        ("unit_interval", "elbo", -0.1, 0.1),
    ],
)
def test_a_model_that_codes_worse_than_a_uniform_is_said_to(
    support: Support, name: str, bad: float, good: float
) -> None:
    finding = coding_finding({name: Metric(value=bad, unit="")}, support)
    assert finding is not None
    assert finding.trouble == "worse than a uniform"
    assert coding_finding({name: Metric(value=good, unit="")}, support) is None
    assert coding_finding({name: Metric(value=bad, unit="")}, "real") is None
