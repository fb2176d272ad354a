import math
from typing import Any

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from service.calibration import bounds_from_terms
from tests.training.linear_gaussian import LATENT, linear_gaussian
from training.recipe import parse_recipe
from training.step import Noise
from training.vae import VaeStep, elbo, gaussian_kl, importance_bound, make_vae, score_terms


def eps(rows: int, draws: int, latent: int = LATENT, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, draws, latent, generator=generator, dtype=torch.float64)


def test_analytic_kl_equals_that_of_torch_distributions() -> None:
    mean, log_variance = torch.randn(20, 5), 2 * torch.randn(20, 5)
    expected = kl_divergence(Normal(mean, (0.5 * log_variance).exp()), Normal(0.0, 1.0)).sum(1)
    assert torch.allclose(gaussian_kl(mean, log_variance), expected, rtol=1e-5)


def test_analytic_kl_equals_its_monte_carlo_estimate_within_the_error() -> None:
    vae, items, _ = linear_gaussian(shift=0.3, log_scale=0.5)
    terms = score_terms(vae, items, eps(len(items), 4000))
    samples = terms.log_posterior - terms.log_prior
    error = samples.std(1) / math.sqrt(samples.shape[1])
    assert ((samples.mean(1) - terms.kl).abs() < 5 * error).all()


def test_every_draw_gives_the_exact_evidence_under_the_true_posterior() -> None:
    vae, items, log_evidence = linear_gaussian()
    terms = score_terms(vae, items, eps(len(items), 7))
    weights = terms.log_likelihood + terms.log_prior - terms.log_posterior
    assert torch.allclose(weights, log_evidence[:, None].expand_as(weights), atol=1e-9)
    assert torch.allclose(importance_bound(terms), log_evidence, atol=1e-9)


def test_elbo_equals_the_evidence_in_expectation_under_the_true_posterior() -> None:
    vae, items, log_evidence = linear_gaussian()
    bound = elbo(vae, items, eps(len(items), 4000))
    gap = bound.log_likelihood.mean(1) - bound.kl - log_evidence
    error = bound.log_likelihood.std(1) / math.sqrt(4000)
    assert (gap.abs() < 5 * error).all()


def test_bounds_are_ordered_and_below_the_evidence_under_a_wrong_posterior() -> None:
    vae, items, log_evidence = linear_gaussian(shift=0.4, log_scale=0.8)
    groups = 400
    means = {}
    for draws in (1, 4, 16):
        repeated = items.repeat_interleave(groups, 0)
        means[draws] = (
            importance_bound(score_terms(vae, repeated, eps(len(repeated), draws, seed=draws))).mean().item()
        )
    exact_elbo = elbo(vae, items, eps(len(items), 4000))
    lower = (exact_elbo.log_likelihood.mean(1) - exact_elbo.kl).mean().item()
    assert lower == pytest.approx(means[1], abs=0.03)
    assert means[1] < means[4] < means[16] < log_evidence.mean().item()


def test_the_gap_of_the_elbo_is_the_divergence_of_the_posteriors() -> None:
    shift, log_scale = 0.4, 0.8
    vae, items, log_evidence = linear_gaussian(shift, log_scale)
    true_vae, _, _ = linear_gaussian()
    mean, log_variance = vae.encode(items)
    true_mean, true_log_variance = true_vae.encode(items)
    wrong, true = Normal(mean, (0.5 * log_variance).exp()), Normal(true_mean, (0.5 * true_log_variance).exp())
    bound = elbo(vae, items, eps(len(items), 8000))
    gap = log_evidence - (bound.log_likelihood.mean(1) - bound.kl)
    assert torch.allclose(gap, kl_divergence(wrong, true).sum(1), atol=0.15)


def test_torch_and_the_service_compute_the_same_bounds_from_the_same_terms() -> None:
    vae, items, _ = linear_gaussian(shift=0.2)
    terms = score_terms(vae, items, eps(len(items), 8))
    ours = bounds_from_terms(*(term.numpy() for term in terms))
    assert torch.allclose(torch.from_numpy(ours.importance_bound), importance_bound(terms))
    assert torch.allclose(torch.from_numpy(ours.elbo), terms.log_likelihood.mean(1) - terms.kl)


def tiny_vae(**options: Any) -> VaeStep:
    recipe = parse_recipe({
        "name": "tiny",
        "data": {"dataset": "digits"},
        "network": {"kind": "dense", "latent": 3, "hidden": [8]},
        "vae": {"likelihood": "continuous-bernoulli"} | options,
        "loop": {"steps": 1},
    })  # fmt: skip
    assert recipe.vae is not None
    torch.manual_seed(0)
    return VaeStep(make_vae(recipe, (1, 8, 8)), recipe.vae)


def test_the_kl_weight_grows_over_the_warm_up_and_the_report_stays_the_plain_elbo() -> None:
    (phase,) = tiny_vae(kl_weight=4.0, kl_warmup_steps=10).phases()
    items = torch.rand(6, 1, 8, 8)
    for step, weight in ((0, 0.4), (4, 2.0), (9, 4.0), (50, 4.0)):
        terms = phase.objective(items, Noise(0, Noise.TRAINING, 0), step)
        report = terms.report
        assert torch.allclose(terms.loss, weight * report["kl"] - report["log_likelihood"], atol=1e-4)
        assert torch.allclose(report["elbo"], report["log_likelihood"] - report["kl"], atol=1e-4)


def test_the_density_of_a_black_pixel_is_bounded_whatever_the_decoder_says() -> None:
    vae = tiny_vae(logit_bound=20.0).model
    parameters = vae.decode(1e6 * torch.randn(50, 3))
    black = torch.zeros_like(parameters)
    assert parameters.abs().max() <= 20
    assert (
        vae.likelihood.log_prob(parameters, black) <= 64 * math.log(20 / (1 - math.exp(-20))) + 1e-3
    ).all()


def test_posterior_variances_stay_in_a_sane_range() -> None:
    _, log_variance = tiny_vae().model.encode(1e9 * torch.randn(50, 1, 8, 8))
    assert torch.isfinite(log_variance.exp()).all()
    assert (log_variance.exp() > 0).all()
