"""The density of a mixture prior where float32 has little to spare."""

import math

import pytest
import torch

from training.priors import Gaussians, prior_log_prob


@pytest.mark.parametrize("deviation", [1.0, 0.1, 0.01])
def test_a_mixture_of_narrow_gaussians_keeps_its_digits_in_float32(deviation: float) -> None:
    generator = torch.Generator().manual_seed(0)
    means = 3 + 2 * torch.randn(50, 20, generator=generator)
    gaussians = Gaussians(means, torch.full_like(means, 2 * math.log(deviation)))
    latents = means[None] + deviation * torch.randn(8, 50, 20, generator=generator)
    doubled = Gaussians(gaussians.means.double(), gaussians.log_variances.double())
    exact = prior_log_prob(latents.double(), doubled)
    assert torch.allclose(prior_log_prob(latents, gaussians).double(), exact, rtol=1e-6, atol=1e-4)
