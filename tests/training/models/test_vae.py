import math

import pytest
import torch
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal, kl_divergence
from torch.nn.functional import binary_cross_entropy_with_logits

from service.numerics.calibration import bounds_from_terms
from tests.training.models.linear_gaussian import LATENT, linear_gaussian
from training.models.likelihoods import Bernoulli
from training.models.priors import GaussianMixture, Gaussians, VampPrior, gaussian_kl, prior_log_prob
from training.models.vae import (
    ScoreTerms,
    draw_posterior,
    elbo,
    importance_bound,
    score_terms,
    with_fixed_prior,
)


def eps(rows: int, draws: int, latent: int = LATENT, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, draws, latent, generator=generator, dtype=torch.float64)


def three_gaussians() -> GaussianMixture:
    means = torch.tensor([[-1.0, 0.0], [1.0, 1.0], [0.0, -2.0]]).double()
    return GaussianMixture(Gaussians(means, torch.tensor([[-1.0, 0.0], [0.3, -2.0], [0.0, 0.0]]).double()))


def test_analytic_kl_equals_that_of_torch_distributions() -> None:
    mean, log_variance = eps(20, 5, seed=0), 2 * eps(20, 5, seed=1)
    expected = kl_divergence(Normal(mean, (0.5 * log_variance).exp()), Normal(0.0, 1.0))
    assert torch.allclose(gaussian_kl(mean, log_variance), expected, rtol=1e-9)


def test_analytic_kl_equals_its_monte_carlo_estimate_within_the_error() -> None:
    vae, items, _ = linear_gaussian(shift=0.3, log_scale=0.5)
    terms = score_terms(vae, items, eps(len(items), 4000))
    samples = terms.log_posterior - terms.log_prior
    error = samples.std(1) / math.sqrt(samples.shape[1])
    assert ((samples.mean(1) - terms.kl).abs() < 5 * error).all()


@pytest.mark.parametrize("spread", [1.0, 30.0])
def test_a_mixture_prior_has_the_density_of_torch_distributions(spread: float) -> None:
    prior = three_gaussians()
    parts = Independent(Normal(prior.means, (0.5 * prior.log_variances).exp()), 1)
    expected = MixtureSameFamily(Categorical(torch.ones(3).double()), parts)
    latents = spread * eps(40, 5)
    density = prior_log_prob(latents, Gaussians(prior.means, prior.log_variances))
    assert torch.allclose(density, expected.log_prob(latents), rtol=1e-9)  # type: ignore[no-untyped-call]


def test_every_draw_gives_the_exact_evidence_under_the_true_posterior() -> None:
    vae, items, log_evidence = linear_gaussian()
    terms = score_terms(vae, items, eps(len(items), 7))
    weights = terms.log_likelihood + terms.log_prior - terms.log_posterior
    assert torch.allclose(weights, log_evidence[:, None].expand_as(weights), atol=1e-9)
    assert torch.allclose(importance_bound(terms), log_evidence, atol=1e-9)


def test_elbo_equals_the_evidence_in_expectation_under_the_true_posterior() -> None:
    vae, items, log_evidence = linear_gaussian()
    terms = score_terms(vae, items, eps(len(items), 4000))
    error = terms.log_likelihood.std(1) / math.sqrt(4000)
    assert ((elbo(terms) - log_evidence).abs() < 5 * error).all()


@pytest.mark.parametrize("prior", [None, three_gaussians()], ids=["standard normal", "mixture"])
def test_bounds_are_ordered_and_below_the_evidence_under_a_wrong_posterior(
    prior: GaussianMixture | None,
) -> None:
    vae, items, log_evidence = linear_gaussian(shift=0.4, log_scale=0.8, prior=prior)
    with torch.no_grad():
        repeated = items.repeat_interleave(400, 0)
        means = [
            importance_bound(score_terms(vae, repeated, eps(len(repeated), draws, seed=draws))).mean().item()
            for draws in (1, 2, 4, 8, 16)
        ]
        mean_elbo = elbo(score_terms(vae, items, eps(len(items), 4000))).mean().item()
    assert mean_elbo == pytest.approx(means[0], abs=0.1)
    assert means == sorted(means)
    assert means[-1] < log_evidence.mean().item()


def test_the_gap_of_the_elbo_is_the_divergence_of_the_posteriors() -> None:
    shift, log_scale = 0.4, 0.8
    vae, items, log_evidence = linear_gaussian(shift, log_scale)
    true_vae, _, _ = linear_gaussian()
    mean, log_variance = vae.encode(items)
    true_mean, true_log_variance = true_vae.encode(items)
    wrong, true = Normal(mean, (0.5 * log_variance).exp()), Normal(true_mean, (0.5 * true_log_variance).exp())
    gap = log_evidence - elbo(score_terms(vae, items, eps(len(items), 8000)))
    assert torch.allclose(gap, kl_divergence(wrong, true).sum(1), atol=0.15)


def test_the_monte_carlo_error_falls_with_the_square_root_of_the_draws() -> None:
    vae, items, _ = linear_gaussian(shift=0.4, log_scale=0.8)
    repeated = items[:1].repeat_interleave(2000, 0)
    sizes = (4, 16, 64, 256)
    spreads = [elbo(score_terms(vae, repeated, eps(2000, draws, seed=draws))).std() for draws in sizes]
    # the logarithm of a standard deviation over 2000 repetitions has an error of 0.016
    for draws, spread in zip(sizes[1:], spreads[1:], strict=True):
        slope = (spread / spreads[0]).log() / math.log(draws / sizes[0])
        assert slope.item() == pytest.approx(-0.5, abs=0.03)


def test_the_reported_error_is_the_spread_of_the_estimate() -> None:
    for prior in (None, three_gaussians()):
        vae, items, _ = linear_gaussian(shift=0.4, log_scale=0.8, prior=prior)
        with torch.no_grad():
            terms = score_terms(vae, items[:1].repeat_interleave(3000, 0), eps(3000, 32))
        bounds = bounds_from_terms(*(term.numpy() for term in terms), analytic_kl=prior is None)
        assert bounds.standard_error.mean() == pytest.approx(bounds.elbo.std(), rel=0.06)


def test_the_likelihood_term_of_a_bernoulli_decoder_is_minus_the_binary_cross_entropy() -> None:
    vae, items, _ = linear_gaussian()
    vae.likelihood, items = Bernoulli(), (items > 0).double()
    draws = draw_posterior(vae, items, eps(len(items), 3))
    for k in range(3):
        logits = vae.decode(draws.latents[:, k])
        entropy = binary_cross_entropy_with_logits(logits, items, reduction="none").flatten(1).sum(1)
        assert torch.allclose(draws.log_likelihood[:, k], -entropy)
    expected = draws.log_likelihood.mean(1) - gaussian_kl(draws.mean, draws.log_variance).sum(1)
    assert torch.allclose(elbo(score_terms(vae, items, eps(len(items), 3))), expected)


@pytest.mark.parametrize("prior", [None, three_gaussians()], ids=["standard normal", "mixture"])
def test_torch_and_the_service_compute_the_same_bounds_from_the_same_terms(
    prior: GaussianMixture | None,
) -> None:
    vae, items, _ = linear_gaussian(shift=0.2, prior=prior)
    with torch.no_grad():
        terms = score_terms(vae, items, eps(len(items), 8))
    ours = bounds_from_terms(*(term.numpy() for term in terms))
    assert torch.allclose(torch.from_numpy(ours.importance_bound), importance_bound(terms))
    assert torch.allclose(torch.from_numpy(ours.elbo), elbo(terms))


def test_a_vamp_prior_is_the_mixture_of_its_pseudo_inputs_posteriors_and_stays_it_when_fixed() -> None:
    vae, items, _ = linear_gaussian(shift=0.3)
    zero, one = torch.zeros(()).double(), torch.ones(()).double()
    vae.prior = VampPrior(items[:4], "real", zero, one)
    mean, log_variance = vae.encode(items[:4])
    components = vae.components()
    assert components is not None
    assert torch.allclose(components.means, mean)
    assert torch.allclose(components.log_variances, log_variance)

    def terms(model: torch.nn.Module) -> ScoreTerms:
        return score_terms(model, items, eps(len(items), 5))  # type: ignore[arg-type]

    for learned, fixed in zip(terms(vae), terms(with_fixed_prior(vae)), strict=True):
        assert torch.allclose(learned, fixed)
