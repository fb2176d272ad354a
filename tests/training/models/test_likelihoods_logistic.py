"""The discretised logistic."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from training.models.likelihoods import DiscretisedLogistic, SupportError

LEVELS = torch.arange(256, dtype=torch.float64) / 255
LOCATIONS = (-1.0, -0.3, 0.0, 1e-4, 0.1, 0.5, 0.5 + 0.25 / 255, 0.999, 1.0, 1.5, 2.0)
"""Values over the whole bounded range, on levels, between them, and at both ends."""
LOG_SCALES = torch.linspace(math.log(0.5 / 255), 0, 9, dtype=torch.float64)
SHAPES = torch.cartesian_prod(torch.tensor(LOCATIONS, dtype=torch.float64), LOG_SCALES)
"""(99, 2): every location with every log-scale."""
AT_EVERY_LEVEL = SHAPES.repeat_interleave(256, 0)
"""(99 * 256, 2): each shape for each level."""
EVERY_LEVEL = LEVELS.repeat(len(SHAPES))[:, None]
logistic = DiscretisedLogistic()


def parameters(location: float, log_scale: float, rows: int) -> torch.Tensor:
    """(rows, 2)."""
    return torch.tensor([[location, log_scale]], dtype=torch.float64).expand(rows, -1)


def every_mass() -> torch.Tensor:
    """(99, 256): of every level, for every shape."""
    return logistic.log_prob(AT_EVERY_LEVEL, EVERY_LEVEL).exp().reshape(-1, 256)


def test_parameters_cover_their_range_and_no_more() -> None:
    outputs = torch.tensor([[-1e30, -1e30], [0.0, 0.0], [1e30, 1e30]])
    bounded = logistic.bounded(outputs).double()
    assert torch.allclose(bounded[:, 0], torch.tensor([-1.0, 0.5, 2.0]).double())
    ends = LOG_SCALES[[0, 4, 8]]
    assert torch.allclose(bounded[:, 1], ends, atol=1e-6)


def test_the_256_levels_sum_to_one() -> None:
    np.testing.assert_allclose(every_mass().sum(1), 1, rtol=0, atol=1e-8)


def test_a_level_has_the_mass_of_the_logistic_around_it() -> None:
    edges = np.concatenate([[-np.inf], (np.arange(255) + 0.5) / 255, [np.inf]])
    locations, log_scales = SHAPES.numpy().T[:, :, None]
    around = {"loc": locations, "scale": np.exp(log_scales)}
    below, above = stats.logistic.cdf(edges, **around), stats.logistic.sf(edges, **around)
    masses = np.where(edges[:-1] > locations, -np.diff(above), np.diff(below))
    # the tolerance is that of scipy's differences
    np.testing.assert_allclose(every_mass(), masses, rtol=1e-6, atol=1e-15)


def test_the_gradient_is_that_of_the_log_probability() -> None:
    at = AT_EVERY_LEVEL.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(logistic.log_prob(at, EVERY_LEVEL).sum(), at)
    # a location counts in scales, so that all derivatives are of one order
    scales = torch.stack([AT_EVERY_LEVEL[:, 1].exp(), torch.ones(len(at))], 1)
    for place in range(2):
        step = torch.zeros_like(at)
        step[:, place] = 1e-3 * scales[:, place]
        above, below = (logistic.log_prob(AT_EVERY_LEVEL + side * step, EVERY_LEVEL) for side in (1, -1))
        # the tolerance is the step's, and torch's softplus jumps by 2e-9 where it becomes a line
        np.testing.assert_allclose(
            (gradient * scales)[:, place], (above - below) / 2e-3, rtol=1e-6, atol=1e-5
        )


def test_the_mean_is_that_of_the_levels_within_a_fortieth_of_a_level() -> None:
    means = logistic.mean(SHAPES)[:, 0]
    np.testing.assert_allclose(means, every_mass() @ LEVELS, rtol=0, atol=0.023 / 255)
    assert ((means >= 0) & (means <= 1)).all()


@pytest.mark.parametrize("location", [-0.3, 0.0, 0.5, 1.1])
@pytest.mark.parametrize("scale", [0.5 / 255, 3 / 255, 0.2, 1.0])
def test_draws_have_the_frequencies_of_the_levels(location: float, scale: float) -> None:
    uniforms = torch.rand(50_000, 1, generator=torch.Generator().manual_seed(5)).clamp(min=2.0**-24)
    draws = logistic.draw(parameters(location, math.log(scale), len(uniforms)).float(), uniforms)
    counts = np.bincount(np.round(draws.numpy().ravel() * 255).astype(int), minlength=256)
    masses = logistic.log_prob(parameters(location, math.log(scale), 256), LEVELS[:, None]).exp()
    expected = len(uniforms) * masses.numpy()
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
    for way in (-1, 1):
        logistic.check_support(LEVELS[1:-1] + way * 0.9e-3 / 255)
        with pytest.raises(SupportError, match="254 of 254 values"):
            logistic.check_support(LEVELS[1:-1] + way * 1.1e-3 / 255)


def test_a_picture_of_three_colours_is_the_product_of_its_values() -> None:
    generator = torch.Generator().manual_seed(0)
    outputs = torch.randn(4, 6, 5, 5, generator=generator, dtype=torch.float64)
    items = LEVELS[torch.randint(256, (4, 3, 5, 5), generator=generator)]
    bounded = logistic.bounded(outputs)
    single = torch.stack([bounded[:, :3], bounded[:, 3:]], -1).reshape(-1, 2)
    expected = logistic.log_prob(single, items.reshape(-1, 1)).reshape(4, -1).sum(1)
    assert torch.allclose(logistic.log_prob(bounded, items), expected, rtol=1e-12)
