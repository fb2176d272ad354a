"""The discretised logistic."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from training.models.likelihoods import DiscretisedLogistic

LEVELS = torch.arange(256, dtype=torch.float64) / 255
LOCATIONS = (-1.0, -0.3, 0.0, 1e-4, 0.1, 0.5, 0.5 + 0.25 / 255, 0.999, 1.0, 1.5, 2.0)
"""Values over the whole bounded range, on levels, between them, and at both ends."""
LOG_SCALES = tuple(np.linspace(math.log(0.5 / 255), 0.0, 9).tolist())
logistic = DiscretisedLogistic()


def parameters(location: float, log_scale: float, rows: int) -> torch.Tensor:
    """(rows, 2)."""
    return torch.tensor([[location, log_scale]], dtype=torch.float64).expand(rows, -1)


def log_masses(location: float, log_scale: float) -> torch.Tensor:
    """(256,) nats: of every level."""
    return logistic.log_prob(parameters(location, log_scale, 256), LEVELS[:, None])


every_shape = pytest.mark.parametrize(
    ("location", "log_scale"),
    [(location, log_scale) for location in LOCATIONS for log_scale in LOG_SCALES],
)


def test_parameters_cover_their_range_and_no_more() -> None:
    outputs = torch.tensor([[-1e30, -1e30], [0.0, 0.0], [1e30, 1e30]])
    bounded = logistic.bounded(outputs).double()
    assert torch.allclose(bounded[:, 0], torch.tensor([-1.0, 0.5, 2.0]).double())
    ends = torch.tensor([LOG_SCALES[0], LOG_SCALES[0] / 2, 0.0]).double()
    assert torch.allclose(bounded[:, 1], ends, atol=1e-6)


@every_shape
def test_the_256_levels_sum_to_one(location: float, log_scale: float) -> None:
    assert log_masses(location, log_scale).exp().sum().item() == pytest.approx(1, abs=1e-8)


@every_shape
def test_a_level_has_the_mass_of_the_logistic_around_it(location: float, log_scale: float) -> None:
    edges = np.concatenate([[-np.inf], (np.arange(255) + 0.5) / 255, [np.inf]])
    upper_half = edges > location
    kwargs = {"loc": location, "scale": math.exp(log_scale)}
    below, above = stats.logistic.cdf(edges, **kwargs), stats.logistic.sf(edges, **kwargs)
    masses = np.where(upper_half[:-1], above[:-1] - above[1:], below[1:] - below[:-1])
    found = log_masses(location, log_scale).exp().numpy()
    # the tolerance is that of scipy's differences
    assert np.allclose(found, masses, rtol=1e-6, atol=1e-15)


@every_shape
def test_the_gradient_is_that_of_the_log_probability(location: float, log_scale: float) -> None:
    at = parameters(location, log_scale, 256).clone().requires_grad_(True)
    assert torch.autograd.gradcheck(
        lambda at: logistic.value_log_prob(at, LEVELS[:, None]), at, fast_mode=True
    )


@every_shape
def test_the_mean_is_that_of_the_levels_within_a_fortieth_of_a_level(
    location: float, log_scale: float
) -> None:
    expected = (log_masses(location, log_scale).exp() * LEVELS).sum().item()
    found = logistic.mean(parameters(location, log_scale, 1))[0, 0].item()
    assert found == pytest.approx(expected, abs=0.023 / 255)
    assert 0 <= found <= 1


@pytest.mark.parametrize("location", [-0.3, 0.0, 0.5, 1.1])
@pytest.mark.parametrize("scale", [0.5 / 255, 3 / 255, 0.2, 1.0])
def test_draws_have_the_frequencies_of_the_levels(location: float, scale: float) -> None:
    uniforms = torch.rand(50_000, 1, generator=torch.Generator().manual_seed(5)).clamp(min=2.0**-24)
    draws = logistic.draw(parameters(location, math.log(scale), len(uniforms)).float(), uniforms)
    counts = np.bincount(np.round(draws.numpy().ravel() * 255).astype(int), minlength=256)
    expected = len(uniforms) * log_masses(location, math.log(scale)).exp().numpy()
    rare = expected < 5
    merged = [np.append(values[~rare], values[rare].sum()) for values in (counts, expected)]
    assert merged[0][-1] <= merged[1][-1] + 6 * math.sqrt(merged[1][-1] + 1)
    kept = [values[:-1] if merged[1][-1] < 5 else values for values in merged]
    kept[1] *= kept[0].sum() / kept[1].sum()
    assert len(kept[0]) == 1 or stats.chisquare(*kept).pvalue > 1e-3


def test_a_value_scores_as_its_nearest_level() -> None:
    at = parameters(0.4, -3.0, 256)
    expected = logistic.log_prob(at, LEVELS[:, None])
    for away in (-0.4, 0.4):
        assert torch.equal(logistic.log_prob(at, LEVELS[:, None] + away / 255), expected)


def test_levels_are_accepted_within_a_thousandth_and_no_further() -> None:
    logistic.check_support(LEVELS.float())
    logistic.check_support(torch.arange(256).float() * (1 / 255))
    logistic.check_support(LEVELS[1:-1] + 0.9e-3 / 255)


def test_a_picture_of_three_colours_is_the_product_of_its_values() -> None:
    generator = torch.Generator().manual_seed(0)
    outputs = torch.randn(4, 6, 5, 5, generator=generator, dtype=torch.float64)
    items = LEVELS[torch.randint(256, (4, 3, 5, 5), generator=generator)]
    bounded = logistic.bounded(outputs)
    single = torch.stack([bounded[:, :3], bounded[:, 3:]], -1).reshape(-1, 2)
    expected = logistic.log_prob(single, items.reshape(-1, 1)).reshape(4, -1).sum(1)
    assert torch.allclose(logistic.log_prob(bounded, items), expected, rtol=1e-12)
