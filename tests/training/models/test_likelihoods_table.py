"""The Gaussian likelihood of tables: numbers in their own units, and categories."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import integrate, special, stats

from service.format.columns import Column
from tests.training.models.likelihood_cases import COLUMNS, ROWS, SCALING, dataset_for, tiny_vae
from training.models.likelihoods import GaussianTable, SupportError
from training.models.likelihoods.table import normal_quantile

FEATURES = 10
NUMBERS = (0, 4)
CATEGORIES = (range(1, 4), range(5, 10))


def mixed_table() -> GaussianTable:
    shift, scale = torch.from_numpy(SCALING.shift), torch.from_numpy(SCALING.scale)
    return GaussianTable(COLUMNS, shift, scale).double()


def parameters(rows: int = 1) -> torch.Tensor:
    """(rows, 20), all rows alike: locations, then log-scales."""
    outputs = torch.randn(1, 2 * FEATURES, generator=torch.Generator().manual_seed(6), dtype=torch.float64)
    return mixed_table().bounded(outputs).expand(rows, -1)


def normal(feature: int) -> stats.rv_continuous:
    """The distribution of a raw number that the parameters stand for."""
    location, log_scale = parameters()[0, feature].item(), parameters()[0, FEATURES + feature].item()
    shift, scale = float(SCALING.shift[feature]), float(SCALING.scale[feature])
    return stats.norm(shift + scale * location, scale * math.exp(log_scale))


def every_category(numbers: tuple[float, float]) -> torch.Tensor:
    """(15, 10): all pairs of categories beside the same numbers."""
    rows = torch.zeros(15, FEATURES, dtype=torch.float64)
    rows[:, NUMBERS] = torch.tensor(numbers, dtype=torch.float64)
    rows[:, 1:4] = torch.eye(3).repeat_interleave(5, 0).double()
    rows[:, 5:10] = torch.eye(5).repeat(3, 1).double()
    return rows


@pytest.mark.parametrize("feature", NUMBERS)
def test_a_number_has_a_density_in_its_own_units(feature: int) -> None:
    wanted, other = normal(feature), normal(NUMBERS[1 - NUMBERS.index(feature)])
    grid = torch.linspace(wanted.mean() - 12 * wanted.std(), wanted.mean() + 12 * wanted.std(), 2001).double()
    rows = every_category((other.mean(), other.mean())).repeat(len(grid), 1)
    rows[:, feature] = grid.repeat_interleave(15)
    joint = mixed_table().log_prob(parameters(len(rows)), rows).exp().reshape(-1, 15).sum(1)
    density = (joint / other.pdf(other.mean())).numpy()
    assert integrate.simpson(density, x=grid.numpy()) == pytest.approx(1, abs=1e-7)
    moment = integrate.simpson(density * grid.numpy(), x=grid.numpy())
    assert mixed_table().mean(parameters())[0, feature].item() == pytest.approx(moment, rel=1e-7)


def test_a_mixed_row_factorises_into_its_columns() -> None:
    rows = every_category((1003.0, 0.2505))
    table, mean = mixed_table(), mixed_table().mean(parameters())[0]
    numbers = sum(normal(feature).logpdf(rows[0, feature].item()) for feature in NUMBERS)
    categories = sum(torch.log((rows[:, span] * mean[span]).sum(1)) for span in CATEGORIES)
    assert torch.allclose(table.log_prob(parameters(15), rows), categories + numbers, rtol=1e-9)


def test_the_categories_of_every_column_sum_to_one() -> None:
    mean = mixed_table().mean(parameters())[0]
    for span in CATEGORIES:
        assert mean[span].sum().item() == pytest.approx(1, abs=1e-12)
    total = mixed_table().log_prob(parameters(15), every_category((1000.0, 0.25))).exp().sum().item()
    expected = normal(0).pdf(1000.0) * normal(4).pdf(0.25)
    assert total == pytest.approx(expected, rel=1e-9)


def test_draws_of_numbers_follow_their_normal_distribution() -> None:
    draws = many_draws()
    for feature in NUMBERS:
        assert stats.kstest(draws[:, feature].numpy(), normal(feature).cdf).pvalue > 1e-3


def test_draws_of_categories_have_their_probabilities() -> None:
    draws, mean = many_draws(), mixed_table().mean(parameters())[0]
    for span in CATEGORIES:
        counts = draws[:, span].sum(0).numpy()
        assert stats.chisquare(counts, len(draws) * mean[span].numpy()).pvalue > 1e-3


def many_draws() -> torch.Tensor:
    uniforms = torch.rand(20_000, FEATURES, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    return mixed_table().draw(parameters(len(uniforms)), uniforms)


def test_a_draw_has_exactly_one_category_however_its_probabilities_are_rounded() -> None:
    # Uniforms right at the borders of the shares, in float32.
    size = 37
    column = Column(name="kind", categories=tuple(f"k{number}" for number in range(size)))
    table = GaussianTable([column], torch.zeros(size), torch.ones(size))
    outputs = 2 * torch.randn(200, 2 * size, generator=torch.Generator().manual_seed(8))
    bounded = table.bounded(outputs)
    borders = table.mean(bounded).cumsum(1).clamp(2.0**-24, 1 - 2.0**-24)
    for border in range(size):
        for step in (-1, 0, 1):
            uniforms = (borders[:, [border]] + step * 2.0**-24).clamp(2.0**-24, 1 - 2.0**-24)
            table.check_support(table.draw(bounded, uniforms.expand(-1, size)))


def test_a_category_that_no_row_has_is_never_drawn_and_the_others_keep_their_shares() -> None:
    column = Column(name="kind", categories=("a", "b", "other"))
    zeros, ones = torch.zeros(3), torch.ones(3)
    table, free = GaussianTable([column], zeros, ones, absent=(2,)), GaussianTable([column], zeros, ones)
    parameters = table.bounded(torch.tensor([[0.4, -0.3, 1.5, 0, 0, 0]]))
    grid = torch.arange(2**-12, 1, 2**-12)
    uniforms = torch.cat([grid, torch.tensor([1 - 2.0**-24])])[:, None].expand(-1, 3)
    shares = table.draw(parameters.expand(len(uniforms), -1), uniforms).mean(0)
    scored = table.mean(parameters)[0]
    assert torch.equal(scored, free.mean(parameters)[0]), "scores count it as before"
    wanted = scored[:2] / scored[:2].sum()
    assert shares.tolist() == pytest.approx([*wanted.tolist(), 0], abs=1e-3)


def test_a_new_vae_gives_a_category_that_no_row_has_about_the_share_of_one_row() -> None:
    dataset = dataset_for("gaussian")
    vae = tiny_vae("gaussian", "standard-normal", replace(dataset, scaling=replace(SCALING, absent=(9,))))
    with torch.no_grad():
        shares = vae.likelihood.mean(vae.decode(torch.randn(500, vae.latent)))[:, 5:]
    assert shares[:, :4].mean().item() == pytest.approx(1 / 4, abs=0.05)
    assert 0.1 < shares[:, 4].mean().item() * ROWS < 1


def test_a_probability_of_a_category_is_never_above_1_in_float32() -> None:
    column = Column(name="kind", categories=("a", "b", "c"))
    table = GaussianTable([column], torch.zeros(3), torch.ones(3))
    first = torch.linspace(-40, 40, 8001)[:, None]
    outputs = torch.cat([first, -first, torch.zeros(len(first), 4)], dim=1)
    for item in torch.eye(3):
        assert (table.log_prob(table.bounded(outputs), item.expand(len(first), -1)) <= 0).all()


@pytest.mark.parametrize("value", [-3e38, -1e30, 1e30, 3e38])
def test_a_number_of_any_size_has_a_finite_score_and_gradient(value: float) -> None:
    table = GaussianTable(COLUMNS, torch.from_numpy(SCALING.shift), torch.from_numpy(SCALING.scale))
    rows = every_category((value, value)).float()
    for extreme in (-1e30, -1e4, 0.0, 1e4, 1e30):
        outputs = torch.full((15, 2 * FEATURES), extreme, requires_grad=True)
        score = table.log_prob(table.bounded(outputs), rows)
        (gradient,) = torch.autograd.grad(score.sum(), outputs)
        assert torch.isfinite(score).all()
        assert torch.isfinite(gradient).all()


def refusal(feature: int | range, values: float | list[float]) -> str:
    rows = every_category((1000.0, 0.25))
    rows[9, feature] = torch.tensor(values, dtype=torch.float64)
    with pytest.raises(SupportError) as caught:
        mixed_table().check_support(rows)
    return str(caught.value)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_not_finite_is_refused_by_column_and_row(value: float) -> None:
    message = refusal(4, value)
    assert "column 'count' holds finite numbers, but 1 of 15 rows do not, the first is row 9" in message
    assert "mend or drop" in message


@pytest.mark.parametrize(
    "values", [[0.0, 0.0, 0.0], [1.0, 1.0, 0.0], [0.5, 0.5, 0.0], [math.nan, 1.0, 0.0], [2.0, -1.0, 0.0]]
)
def test_categories_that_are_not_one_hot_are_refused_by_column_and_row(values: list[float]) -> None:
    message = refusal(range(1, 4), values)
    assert "column 'colour' holds one 1 among the 3 features" in message
    assert "the first is row 9" in message


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_normal_quantile_is_scipys_within_its_documented_accuracy(dtype: torch.dtype) -> None:
    steps = np.arange(1, 2**12) / 2**12
    tails = np.arange(1, 2**12) / 2**24
    uniforms = torch.from_numpy(np.sort(np.concatenate([steps, tails, 1 - tails]))).to(dtype)
    found = normal_quantile(uniforms[None])[0].double().numpy()
    expected = special.ndtri(uniforms.double().numpy())
    assert np.allclose(found, expected, rtol=4e-7, atol=0)
    assert (np.diff(found) >= 0).all()


def test_the_normal_quantile_is_odd_and_finite_beyond_its_range() -> None:
    ends = torch.tensor([1e-45, 2.0**-24, 1 - 2.0**-24])
    low, at, high = normal_quantile(ends[None])[0].tolist()
    assert low == at == pytest.approx(-high, rel=1e-6)
    assert high == pytest.approx(5.29, abs=0.01)
