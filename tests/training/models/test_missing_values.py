"""A linear VAE of rows that lack values: z ~ N(0, 1), x | z ~ N(w z, sigma^2 I), in other units."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import MultivariateNormal

from service.format.columns import Column
from tests.training.models.likelihood_cases import COLUMNS, SCALING, table
from training.data import Scaling
from training.models.likelihoods import GaussianTable, SupportError
from training.models.networks import Standardise
from training.models.vae import LOG_VARIANCE_BOUND, Vae, elbo, importance_bound, reconstruct, score_terms

SIGMA, ROWS = 0.6, 60
WEIGHTS = torch.tensor([1.2, -0.4, 0.8, 2.0, 0.0]).double()
SHIFT = torch.tensor([1000.0, 0.0, -3.0, 0.25, 7.0]).double()
SCALE = torch.tensor([50.0, 1.0, 0.1, 2.0, 3.0]).double()
NAN = float("nan")


class ExactEncoder(nn.Module):
    """The posterior of z given the values that are there, its mean moved by `shift`."""

    def __init__(self, shift: float) -> None:
        super().__init__()
        self._shift = shift

    def forward(self, items: Tensor) -> Tensor:
        there = (~torch.isnan(items)).double()
        standard = torch.nan_to_num((items - SHIFT) / SCALE)
        precision = 1 + (there * WEIGHTS.square() / SIGMA**2).sum(1, keepdim=True)
        mean = (standard * WEIGHTS / SIGMA**2).sum(1, keepdim=True) / precision + self._shift
        # the model squashes its log-variance
        raw = LOG_VARIANCE_BOUND * torch.atanh(-precision.log() / LOG_VARIANCE_BOUND)
        return torch.cat([mean, raw], 1)


class LinearDecoder(nn.Module):
    def forward(self, latents: Tensor) -> Tensor:
        log_scale = math.log(SIGMA)
        raw = log_scale / (1 - abs(log_scale) / 4)  # the likelihood squashes it into (-4, 4)
        return torch.cat([latents * WEIGHTS, torch.full((len(latents), len(WEIGHTS)), raw).double()], 1)


def model(shift: float = 0.0) -> Vae:
    columns = [Column(name=str(place)) for place in range(len(WEIGHTS))]
    likelihood = GaussianTable(columns, SHIFT, SCALE, takes_missing=True).double()
    return Vae(ExactEncoder(shift), LinearDecoder(), likelihood, 1)


def items_with_gaps() -> tuple[Tensor, Tensor]:
    """Rows with values taken away at random, every pattern possible, and log p of the values left."""
    generator = torch.Generator().manual_seed(3)
    latents = torch.randn(ROWS, 1, generator=generator).double()
    noise = torch.randn(ROWS, len(WEIGHTS), generator=generator).double()
    items = SHIFT + SCALE * (latents * WEIGHTS + SIGMA * noise)
    missing = torch.rand(items.shape, generator=generator) < 0.4
    missing[0], missing[1] = True, False
    items[missing] = NAN
    covariance = SCALE[:, None] * (WEIGHTS[:, None] * WEIGHTS + SIGMA**2 * torch.eye(5)) * SCALE
    evidence = [
        MultivariateNormal(SHIFT[left], covariance[left][:, left]).log_prob(row[left])  # type: ignore[no-untyped-call]
        if left.any()
        else torch.zeros(()).double()
        for row, left in zip(items, ~missing, strict=True)
    ]
    return items, torch.stack(evidence)


def eps(draws: int) -> Tensor:
    return torch.randn(ROWS, draws, 1, generator=torch.Generator().manual_seed(draws)).double()


def test_every_draw_gives_the_exact_evidence_of_the_values_that_are_there() -> None:
    items, evidence = items_with_gaps()
    weights = score_terms(model(), items, eps(5)).log_weights
    torch.testing.assert_close(weights, evidence[:, None].expand_as(weights), atol=1e-5, rtol=1e-6)


def test_bounds_with_parts_missing_are_ordered_and_below_the_evidence_under_a_wrong_posterior() -> None:
    items, evidence = items_with_gaps()
    terms = [score_terms(model(shift=0.5), items, eps(draws)) for draws in (2000, 1, 8, 64)]
    means = [elbo(terms[0]).mean().item(), *(importance_bound(term).mean().item() for term in terms[2:])]
    assert means == sorted(means)
    assert means[-1] < evidence.mean().item()
    posterior_variance = torch.exp(model().encode(items)[1])[:, 0]
    gap = 0.5**2 / (2 * posterior_variance)  # KL of two Gaussians of one variance
    error = terms[0].log_likelihood.std(1) / math.sqrt(2000)
    assert ((elbo(terms[0]) + gap - evidence).abs() < 5 * error + 1e-6).all()


def test_a_row_without_any_value_has_a_bound_of_0() -> None:
    items, _ = items_with_gaps()
    bound = elbo(score_terms(model(), items[:1], eps(3)[:1]))
    assert bound.item() == pytest.approx(0, abs=1e-9)


def test_a_reconstruction_fills_in_the_expectation_given_the_rest() -> None:
    items, _ = items_with_gaps()
    mean, _ = model().encode(items)
    rebuilt = reconstruct(model(), items)
    torch.testing.assert_close(rebuilt, SHIFT + SCALE * mean * WEIGHTS)
    assert torch.isfinite(rebuilt).all()


def test_gradients_of_rows_with_gaps_are_finite_and_those_of_missing_values_are_0() -> None:
    likelihood = GaussianTable(
        COLUMNS, torch.from_numpy(SCALING.shift), torch.from_numpy(SCALING.scale), takes_missing=True
    )
    items = torch.from_numpy(table(4))
    items[0, 0], items[1, 1:4], items[2] = NAN, NAN, NAN
    outputs = torch.randn(4, 20, generator=torch.Generator().manual_seed(0), requires_grad=True)
    values = likelihood.value_log_prob(likelihood.bounded(outputs), items)
    (gradient,) = torch.autograd.grad(values.sum(), outputs)
    missing = torch.isnan(items)
    assert (values[missing] == 0).all()
    assert torch.isfinite(gradient).all()
    assert (gradient[2] == 0).all()
    assert gradient[0, 0] == gradient[0, 10] == 0
    whole = torch.from_numpy(table(4))
    other = likelihood.value_log_prob(likelihood.bounded(outputs), whole)
    assert torch.equal(values[~missing], other[~missing])


def test_a_category_is_there_or_not_never_in_part() -> None:
    likelihood = GaussianTable(
        COLUMNS, torch.from_numpy(SCALING.shift), torch.from_numpy(SCALING.scale), takes_missing=True
    )
    items = torch.from_numpy(table(5))
    items[1, 1:4], items[2, 0] = NAN, NAN
    likelihood.check_support(items)
    items[3, 2] = NAN
    with pytest.raises(SupportError, match=r"column .colour.* the first is row 3"):
        likelihood.check_support(items)


def test_networks_see_the_mean_for_a_missing_value_and_which_are_missing() -> None:
    scaling = Scaling(SHIFT.float().numpy(), SCALE.float().numpy(), takes_missing=True, masked=(0, 3))
    seen = Standardise(scaling)(torch.tensor([[NAN, 2.0, -3.0, 0.25, NAN], [1050.0, 0, 0, NAN, 7]]))
    assert seen[0].tolist() == [0, 2, 0, 0, 0, 1, 0]
    assert seen[1, [0, 3, 5, 6]].tolist() == [1, 0, 0, 1]
