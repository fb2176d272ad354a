import math

import numpy as np
import pytest
import torch
from scipy import integrate, stats
from torch import Tensor

from training.losses.gan import (
    discriminator_loss,
    gradient_penalty,
    minimax_generator_loss,
    non_saturating_generator_loss,
    value_function,
)
from training.metrics.platt import jsd_bound

REAL, FAKE = stats.norm(0, 1), stats.norm(1.5, 0.7)


def optimal_logit(x: np.ndarray | float) -> Tensor:
    return torch.as_tensor(REAL.logpdf(x) - FAKE.logpdf(x))


def exact_jsd() -> float:
    def integrand(x: float) -> float:
        p, q = REAL.pdf(x), FAKE.pdf(x)
        middle = (p + q) / 2
        return float(0.5 * sum(density * math.log(density / middle) for density in (p, q) if density > 0))

    return float(integrate.quad(integrand, -8, 8, limit=200)[0])


def test_the_value_at_the_optimal_discriminator_is_twice_the_divergence_less_log_four() -> None:
    def integrand(x: float) -> float:
        real, fake = value_function(optimal_logit(x), optimal_logit(x))
        return float(REAL.pdf(x) * real.item() + FAKE.pdf(x) * fake.item())

    value = integrate.quad(integrand, -8, 8, limit=200)[0]
    assert value == pytest.approx(-2 * math.log(2) + 2 * exact_jsd(), abs=1e-7)


def test_the_bound_is_tight_for_the_optimal_discriminator_and_below_for_any_other() -> None:
    generator = np.random.default_rng(0)
    real, fake = REAL.rvs(100_000, random_state=generator), FAKE.rvs(100_000, random_state=generator)
    best = jsd_bound(optimal_logit(real), optimal_logit(fake))
    assert best.value == pytest.approx(exact_jsd(), abs=5 * best.standard_error)
    for scale, shift in ((0.3, 0.0), (1.0, 1.0), (2.0, -0.5)):
        other = jsd_bound(scale * optimal_logit(real) + shift, scale * optimal_logit(fake) + shift)
        assert other.value < exact_jsd() - 5 * other.standard_error


def test_the_discriminator_loss_is_minus_the_value() -> None:
    real_logits, fake_logits = torch.randn(9), torch.randn(9)
    real, fake = value_function(real_logits, fake_logits)
    assert torch.allclose(discriminator_loss(real_logits, fake_logits), -(real + fake), atol=1e-6)


def test_the_saturating_gradient_vanishes_where_the_discriminator_wins_and_the_other_does_not() -> None:
    logits = torch.tensor([-30.0, -15.0], requires_grad=True)
    (vanishing,) = torch.autograd.grad(minimax_generator_loss(logits, logits).sum(), logits)
    (strong,) = torch.autograd.grad(non_saturating_generator_loss(logits, logits).sum(), logits)
    assert (vanishing.abs() < 1e-6).all()
    assert torch.allclose(strong, torch.tensor(-1.0), atol=1e-6)


def test_both_generator_losses_pull_the_same_way() -> None:
    logits = torch.linspace(-3, 3, 7, requires_grad=True)
    (saturating,) = torch.autograd.grad(minimax_generator_loss(logits, logits).sum(), logits)
    (non_saturating,) = torch.autograd.grad(non_saturating_generator_loss(logits, logits).sum(), logits)
    assert (saturating < 0).all()
    assert (non_saturating < 0).all()


def test_the_penalty_of_a_linear_critic_is_half_its_squared_weight() -> None:
    weight = torch.randn(16)
    items = torch.rand(5, 1, 4, 4, requires_grad=True)
    penalty = gradient_penalty(items, items.flatten(1) @ weight)
    assert torch.allclose(penalty, (0.5 * weight.square().sum()).expand(5), rtol=1e-5)
