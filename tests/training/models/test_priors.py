"""The density of a mixture prior where float32 has little to spare, and the divergence from it."""

import math

import pytest
import torch

from training.models.priors import Gaussians, gaussian_kl, prior_kl, prior_log_prob


@pytest.mark.parametrize("deviation", [1.0, 0.1, 0.01])
def test_a_mixture_of_narrow_gaussians_keeps_its_digits_in_float32(deviation: float) -> None:
    generator = torch.Generator().manual_seed(0)
    means = 3 + 2 * torch.randn(50, 20, generator=generator)
    gaussians = Gaussians(means, torch.full_like(means, 2 * math.log(deviation)))
    latents = means[None] + deviation * torch.randn(8, 50, 20, generator=generator)
    doubled = Gaussians(gaussians.means.double(), gaussians.log_variances.double())
    exact = prior_log_prob(latents.double(), doubled)
    assert torch.allclose(prior_log_prob(latents, gaussians).double(), exact, rtol=1e-6, atol=1e-4)


def posteriors() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(6, 3, generator=generator), torch.randn(6, 3, generator=generator) - 1


def test_the_kl_to_a_mixture_is_at_least_the_exact_one_and_near_it() -> None:
    mean, log_variance = posteriors()
    generator = torch.Generator().manual_seed(2)
    gaussians = Gaussians(
        torch.randn(20, 3, generator=generator), torch.randn(20, 3, generator=generator) / 2
    )
    eps = torch.randn(6, 40_000, 3, generator=generator)
    latents = mean[:, None] + torch.exp(0.5 * log_variance)[:, None] * eps
    log_posterior = -0.5 * (eps.square() + math.log(2 * math.pi) + log_variance[:, None]).sum(-1)
    ratios = log_posterior - prior_log_prob(latents, gaussians)
    exact, error = ratios.mean(1), ratios.std(1) / math.sqrt(ratios.shape[1])
    bound = prior_kl(mean, log_variance, gaussians)
    assert (bound >= exact - 4 * error).all()
    assert (bound <= exact + math.log(20)).all()


def test_the_kl_to_equal_gaussians_is_that_to_one_of_them_and_to_the_standard_normal_in_closed_form() -> None:
    mean, log_variance = posteriors()
    exact = gaussian_kl(mean, log_variance).sum(1)
    same = Gaussians(torch.zeros(5, 3), torch.zeros(5, 3))
    torch.testing.assert_close(prior_kl(mean, log_variance, same), exact, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(prior_kl(mean, log_variance, None), exact)
