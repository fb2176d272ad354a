import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from tests.training.models.linear_gaussian import LATENT, linear_gaussian
from training.data import load_dataset
from training.loop.noise import Noise
from training.loop.vae import VaeTask
from training.losses.vae import elbo_objective, importance_objective
from training.models.vae import Vae, make_vae
from training.recipe import RecipeError, parse_recipe


def tiny_step(steps: int = 1, **options: Any) -> VaeTask:
    recipe = parse_recipe({
        "name": "tiny",
        "data": {"dataset": "digits"},
        "network": {"kind": "dense", "latent": 3, "hidden": [8]},
        "vae": {"likelihood": "continuous-bernoulli"} | options,
        "loop": {"steps": steps},
    })  # fmt: skip
    assert recipe.vae is not None
    torch.manual_seed(0)
    return VaeTask(make_vae(recipe, load_dataset(recipe.data)), recipe.vae, steps)


def encoder_gradients(vae: Vae, items: torch.Tensor, draws: int, repeats: int, plain: bool) -> torch.Tensor:
    """(repeats, 2 D) independent estimates of the bound's gradient in the outputs of the encoder."""
    offset = torch.zeros(repeats, 1, 2 * LATENT, dtype=torch.float64, requires_grad=True)
    encode: Callable[[torch.Tensor], torch.Tensor] = vae.encoder.forward
    rows = items.repeat(repeats, 1, 1, 1)

    def shifted(values: torch.Tensor) -> torch.Tensor:
        outputs = encode(values)
        return (outputs.reshape(repeats, len(items), -1) + offset).flatten(0, 1)

    vae.encoder.forward = shifted
    generator = torch.Generator().manual_seed(4)
    eps = torch.randn(len(rows), draws, LATENT, dtype=torch.float64, generator=generator)
    (gradient,) = torch.autograd.grad(importance_objective(vae, rows, eps, plain=plain).loss.sum(), offset)
    vae.encoder.forward = encode
    return gradient.squeeze(1)


def test_the_kl_weight_grows_over_the_warm_up_and_the_report_stays_the_plain_elbo() -> None:
    (phase,) = tiny_step(steps=100, kl_weight=4.0, kl_warmup_steps=10).phases()
    items = torch.rand(6, 1, 8, 8)
    for step, weight in ((0, 0.4), (4, 2.0), (9, 4.0), (50, 4.0)):
        terms = phase.objective(items, Noise(0, Noise.TRAINING, 0), step)
        report = terms.report
        assert torch.allclose(terms.loss, weight * report["kl"] - report["log_likelihood"], atol=1e-4)
        assert torch.allclose(report["elbo"], report["log_likelihood"] - report["kl"], atol=1e-4)


def test_free_bits_press_no_dimension_below_them_and_leave_the_report_alone() -> None:
    vae, items, _ = linear_gaussian()
    eps = torch.randn(len(items), 1, LATENT, dtype=torch.float64)
    none, some, plenty = (elbo_objective(vae, items, eps, 1.0, free_bits) for free_bits in (0.0, 0.5, 50.0))
    assert (some.loss >= none.loss).all()
    assert torch.allclose(plenty.loss, LATENT * 50 - plenty.report["log_likelihood"])
    assert torch.equal(none.report["elbo"], plenty.report["elbo"])


def test_free_bits_under_a_mixture_prior_are_refused() -> None:
    with pytest.raises(RecipeError, match="no part for each dimension"):
        tiny_step(prior="mixture", free_bits=0.5)


@pytest.mark.parametrize("plain", [False, True], ids=["doubly reparametrised", "plain"])
def test_the_loss_is_minus_the_bound_for_decoder_and_prior(plain: bool) -> None:
    vae, items, _ = linear_gaussian(shift=0.4, log_scale=0.8)
    eps = torch.randn(len(items), 8, LATENT, dtype=torch.float64)
    weight = torch.nn.Parameter(vae.decoder.get_buffer("weight").clone())
    del vae.decoder.weight
    vae.decoder.register_parameter("weight", weight)
    terms = importance_objective(vae, items, eps, plain=plain)
    (gradient,) = torch.autograd.grad(terms.loss.sum(), weight)
    step = 1e-6 * torch.randn_like(gradient)

    def bound(scale: float) -> torch.Tensor:
        with torch.no_grad():
            weight.add_(scale * step)
            value = importance_objective(vae, items, eps).report["importance_bound"].sum()
            weight.sub_(scale * step)
        return value

    slope = (bound(1) - bound(-1)) / 2
    assert slope.item() == pytest.approx(-(gradient * step).sum().item(), rel=1e-5)


def test_both_gradients_of_the_encoder_agree_in_expectation() -> None:
    vae, items, _ = linear_gaussian(shift=0.4, log_scale=0.8)
    ours, plain = (encoder_gradients(vae, items[:4], 4, 20_000, plain) for plain in (False, True))
    error = ((ours.var(0) + plain.var(0)) / len(ours)).sqrt()
    assert ((ours.mean(0) - plain.mean(0)).abs() < 5 * error).all()
    assert (plain.mean(0).abs() > 10 * error).any()


def test_the_doubly_reparametrised_gradient_gains_signal_with_more_draws_and_the_plain_one_loses_it() -> None:
    vae, items, _ = linear_gaussian(shift=0.4, log_scale=0.8)

    def signal_to_noise(draws: int, plain: bool) -> float:
        gradients = encoder_gradients(vae, items[:1], draws, 4000, plain)
        return (gradients.mean(0).abs() / gradients.std(0)).mean().item()

    assert signal_to_noise(64, plain=False) > 1.5 * signal_to_noise(4, plain=False)
    assert signal_to_noise(64, plain=True) < signal_to_noise(4, plain=True)
    assert signal_to_noise(64, plain=False) > 3 * signal_to_noise(64, plain=True)


def test_the_importance_weighted_phase_begins_at_its_share_of_the_steps() -> None:
    (phase,) = tiny_step(steps=10, importance_from=0.6).phases()
    noise = Noise(0, Noise.TRAINING, 0)
    reports = [phase.objective(torch.rand(4, 1, 8, 8), noise, step).report for step in (5, 6)]
    assert ["importance_bound" in report for report in reports] == [False, True]


@pytest.mark.parametrize("prior", ["standard-normal", "mixture", "vamp"])
def test_every_prior_is_trained_and_sampled(prior: str) -> None:
    step = tiny_step(prior=prior, prior_components=20)
    (phase,) = step.phases()
    phase.objective(torch.rand(4, 1, 8, 8), Noise(0, Noise.TRAINING, 0), 0).loss.sum().backward()  # type: ignore[no-untyped-call]
    assert all(parameter.grad is not None for parameter in step.model.parameters())
    samples = step.sample(Noise(0, Noise.VALIDATION, 0), 5)
    assert samples.shape == (5, 1, 8, 8)
    assert ((samples >= 0) & (samples <= 1)).all()


def test_the_density_of_a_black_pixel_is_bounded_whatever_the_decoder_says() -> None:
    vae = tiny_step(logit_bound=20.0).model
    parameters = vae.decode(1e6 * torch.randn(50, 3))
    black = torch.zeros_like(parameters)
    assert parameters.abs().max() <= 20
    assert (
        vae.likelihood.log_prob(parameters, black) <= 64 * math.log(20 / (1 - math.exp(-20))) + 1e-3
    ).all()


def test_posterior_variances_stay_in_a_sane_range() -> None:
    _, log_variance = tiny_step().model.encode(1e9 * torch.randn(50, 1, 8, 8))
    assert torch.isfinite(log_variance.exp()).all()
    assert (log_variance.exp() > 0).all()
