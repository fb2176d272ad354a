"""The Bernoulli and the continuous Bernoulli."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import integrate, stats
from torch.nn.functional import binary_cross_entropy_with_logits

from training.models.likelihoods import Bernoulli, ContinuousBernoulli

# fmt: off
LOGITS = [
    -200.0, -30.0, -3.0, -1.0001, -0.9999, -0.1, -1e-3, -1e-6, 0.0, 1e-6, 1e-3, 0.0624, 0.0626, 0.5, 2.0,
    30.0, 200.0,
]
# fmt: on
continuous_bernoulli = ContinuousBernoulli(logit_bound=50.0)


def column(values: list[float], dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.tensor(values, dtype=dtype).reshape(-1, 1)


def density(logit: float, x: float) -> float:
    return math.exp(continuous_bernoulli.log_prob(column([logit]), column([x])).item())


def test_bernoulli_sums_to_one_over_all_binary_items() -> None:
    logits = torch.tensor([[-3.0, 0.2, 5.0, 0.0]], dtype=torch.float64)
    items = torch.tensor(list(itertools.product((0.0, 1.0), repeat=4)), dtype=torch.float64)
    total = Bernoulli().log_prob(logits.expand(16, -1), items).exp().sum()
    assert total.item() == pytest.approx(1, abs=1e-12)


def test_bernoulli_is_minus_the_binary_cross_entropy() -> None:
    logits, items = torch.randn(5, 1, 4, 4), torch.rand(5, 1, 4, 4).round()
    expected = -binary_cross_entropy_with_logits(logits, items, reduction="none").sum((1, 2, 3))
    assert torch.allclose(Bernoulli().log_prob(logits, items), expected, atol=1e-5)


@pytest.mark.parametrize("logit", [-6.0, -1.0, 0.0, 3.0])
def test_bernoulli_draws_are_1_as_often_as_their_probability(logit: float) -> None:
    uniforms = torch.rand(20_000, 1, generator=torch.Generator().manual_seed(3))
    ones = int(Bernoulli().draw(torch.full_like(uniforms, logit), uniforms).sum())
    probability = math.exp(Bernoulli().log_prob(column([logit]), column([1.0])).item())
    assert stats.binomtest(ones, len(uniforms), probability).pvalue > 1e-3


@pytest.mark.parametrize("logit", LOGITS)
def test_continuous_bernoulli_integrates_to_one(logit: float) -> None:
    peak = 1.0 if logit > 0 else 0.0
    near = abs(peak - min(1.0, 20 / (1 + abs(logit))))
    total, _ = integrate.quad(lambda x: density(logit, x), 0, 1, points=[near], epsabs=1e-9)
    assert total == pytest.approx(1, abs=1e-7)


@pytest.mark.parametrize("logit", LOGITS)
def test_continuous_bernoulli_mean_is_the_integral_of_x(logit: float) -> None:
    near = 1 / (1 + abs(logit))
    expected, _ = integrate.quad(lambda x: x * density(logit, x), 0, 1, points=[near, 1 - near], epsabs=1e-9)
    assert continuous_bernoulli.mean(column([logit])).item() == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize("logit", [-30.0, -2.0, -0.06, 0.0, 1e-4, 0.07, 1.0, 30.0])
def test_continuous_bernoulli_draws_follow_the_distribution_function(logit: float) -> None:
    uniforms = torch.rand(20_000, 1, generator=torch.Generator().manual_seed(3))
    draws = continuous_bernoulli.draw(torch.full_like(uniforms, logit), uniforms)

    def distribution_function(x: np.ndarray) -> np.ndarray:
        return x if logit == 0 else np.expm1(logit * x) / np.expm1(logit)

    assert stats.kstest(draws.squeeze(1).double().numpy(), distribution_function).pvalue > 1e-3


def test_continuous_bernoulli_gradient_is_item_minus_mean() -> None:
    # d log p / d l = x - E[x | l], as in every exponential family: it ties log_prob and mean together.
    logits, items = column(LOGITS).requires_grad_(), torch.full((len(LOGITS), 1), 0.3, dtype=torch.float64)
    (gradient,) = torch.autograd.grad(continuous_bernoulli.log_prob(logits, items).sum(), logits)
    assert torch.allclose(gradient, items - continuous_bernoulli.mean(logits.detach()), atol=1e-7)


@pytest.mark.parametrize("bound", [5.0, 50.0])
def test_logits_of_a_continuous_bernoulli_stay_within_their_bound(bound: float) -> None:
    outputs = column([-1e30, -bound, -0.01, 0.0, 0.01, bound, 1e30])
    logits = ContinuousBernoulli(bound).bounded(outputs)
    assert (logits.abs() <= bound).all()
    assert (logits.diff(dim=0) > 0).all()
    assert torch.allclose(logits[2:5], outputs[2:5], rtol=1e-2)
