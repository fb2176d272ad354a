import itertools
import math

import numpy as np
import pytest
import torch
from scipy import integrate, stats
from torch.nn.functional import binary_cross_entropy_with_logits

from training.likelihoods import Bernoulli, ContinuousBernoulli, Likelihood, SupportError, make_likelihood

LOGITS = [
    -200.0,
    -30.0,
    -3.0,
    -1.0001,
    -0.9999,
    -0.1,
    -1e-3,
    -1e-6,
    0.0,
    1e-6,
    1e-3,
    0.0624,
    0.0626,
    0.5,
    2.0,
    30.0,
    200.0,
]


def column(values: list[float], dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.tensor(values, dtype=dtype).reshape(-1, 1)


def test_bernoulli_sums_to_one_over_all_binary_items() -> None:
    logits = torch.tensor([[-3.0, 0.2, 5.0, 0.0]], dtype=torch.float64)
    items = torch.tensor(list(itertools.product((0.0, 1.0), repeat=4)), dtype=torch.float64)
    total = Bernoulli().log_prob(logits.expand(16, -1), items).exp().sum()
    assert total.item() == pytest.approx(1, abs=1e-12)


def test_bernoulli_is_minus_the_binary_cross_entropy() -> None:
    logits, items = torch.randn(5, 1, 4, 4), torch.rand(5, 1, 4, 4).round()
    expected = -binary_cross_entropy_with_logits(logits, items, reduction="none").sum((1, 2, 3))
    assert torch.allclose(Bernoulli().log_prob(logits, items), expected, atol=1e-5)


def test_bernoulli_refuses_grey_pixels_and_says_what_to_do() -> None:
    with pytest.raises(SupportError, match=r"0\.5; binarise the data or use 'continuous-bernoulli'"):
        Bernoulli().check_support(torch.tensor([0.0, 1.0, 0.5]))


@pytest.mark.parametrize("strange", [-0.1, 1.5, math.nan])
def test_continuous_bernoulli_refuses_values_outside_the_unit_interval(strange: float) -> None:
    with pytest.raises(SupportError, match="scale the data"):
        ContinuousBernoulli().check_support(torch.tensor([0.0, 1.0, strange]))


@pytest.mark.parametrize("logit", LOGITS)
def test_continuous_bernoulli_integrates_to_one(logit: float) -> None:
    def density(x: float) -> float:
        return math.exp(ContinuousBernoulli().log_prob(column([logit]), column([x])).item())

    peak = 1.0 if logit > 0 else 0.0
    near = abs(peak - min(1.0, 20 / (1 + abs(logit))))
    total, _ = integrate.quad(density, 0, 1, points=[near], epsabs=1e-9)
    assert total == pytest.approx(1, abs=1e-7)


@pytest.mark.parametrize("logit", LOGITS)
def test_continuous_bernoulli_mean_is_the_integral_of_x(logit: float) -> None:
    def moment(x: float) -> float:
        return x * math.exp(ContinuousBernoulli().log_prob(column([logit]), column([x])).item())

    expected, _ = integrate.quad(
        moment, 0, 1, points=[1 / (1 + abs(logit)), 1 - 1 / (1 + abs(logit))], epsabs=1e-9
    )
    assert ContinuousBernoulli().mean(column([logit])).item() == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize("logit", [-30.0, -2.0, -0.06, 0.0, 1e-4, 0.07, 1.0, 30.0])
def test_continuous_bernoulli_draws_follow_the_distribution_function(logit: float) -> None:
    uniforms = torch.rand(20_000, 1, generator=torch.Generator().manual_seed(3))
    draws = ContinuousBernoulli().draw(torch.full_like(uniforms, logit), uniforms)

    def distribution_function(x: np.ndarray) -> np.ndarray:
        return x if logit == 0 else np.expm1(logit * x) / np.expm1(logit)

    assert stats.kstest(draws.squeeze(1).double().numpy(), distribution_function).pvalue > 1e-3


def test_continuous_bernoulli_draw_rises_with_the_uniform_and_stays_inside() -> None:
    uniforms = torch.linspace(1e-6, 1 - 1e-6, 1001).reshape(1, -1)
    for logit in LOGITS:
        draws = ContinuousBernoulli().draw(torch.full_like(uniforms, logit), uniforms)
        assert (draws.diff() >= -2e-6).all()
        assert ((draws >= 0) & (draws <= 1)).all()


@pytest.mark.parametrize("name", ["bernoulli", "continuous-bernoulli"])
def test_gradients_are_finite_at_extreme_logits(name: str) -> None:
    likelihood: Likelihood = make_likelihood(name)
    for value in (0.0, 1.0):
        logits = column(
            [-1e4, -88.0, -1.0, -1e-30, 0.0, 1e-8, 1.0, 88.0, 1e4], torch.float32
        ).requires_grad_()
        items = torch.full_like(logits, value)
        outputs = (likelihood.log_prob(logits, items), likelihood.mean(logits))
        for output in outputs:
            (gradient,) = torch.autograd.grad(output.sum(), logits, retain_graph=True)
            assert torch.isfinite(output).all()
            assert torch.isfinite(gradient).all()


def test_continuous_bernoulli_gradient_is_item_minus_mean() -> None:
    # d log p / d l = x - E[x | l], as in every exponential family: it ties log_prob and mean together.
    logits, items = column(LOGITS).requires_grad_(), torch.full((len(LOGITS), 1), 0.3, dtype=torch.float64)
    (gradient,) = torch.autograd.grad(ContinuousBernoulli().log_prob(logits, items).sum(), logits)
    assert torch.allclose(gradient, items - ContinuousBernoulli().mean(logits.detach()), atol=1e-7)


def test_float32_agrees_with_float64() -> None:
    logits = torch.linspace(-40, 40, 4001, dtype=torch.float64).reshape(-1, 1)
    items = torch.full_like(logits, 0.7)
    exact, rounded = (
        ContinuousBernoulli().log_prob(logits.to(kind), items.to(kind)).double()
        for kind in (torch.float64, torch.float32)
    )
    assert torch.allclose(exact, rounded, rtol=1e-6, atol=2e-6)
