"""The density of a number that had one value in all training rows."""

import math

import pytest
import torch
from scipy import integrate, stats

from service.format.columns import Column
from training.data import Scaling
from training.models.likelihoods import GaussianTable
from training.models.networks import Standardise, Unstandardise

VALUE, SCALE = 1.5, 1.5e-4
COLUMNS = (Column(name="flow"), Column(name="fixed"), Column(name="kind", categories=("a", "b")))
SHIFT, SCALES = torch.tensor([100.0, VALUE, 0, 0]), torch.tensor([5.0, SCALE, 1, 1])
ROW = [103.0, VALUE, 0, 1]


def table(constants: tuple[int, ...] = (1,)) -> GaussianTable:
    return GaussianTable(COLUMNS, SHIFT, SCALES, constants).double()


def parameters(rows: int, spread: float = 3.0) -> torch.Tensor:
    """(rows, 8), all rows alike, of a decoder that does not know which number is fixed."""
    outputs = spread * torch.randn(1, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return table().bounded(outputs).expand(rows, -1)


def surprises(values: torch.Tensor) -> torch.Tensor:
    """Minus the log-likelihood of rows that differ in the fixed number."""
    rows = torch.tensor([ROW], dtype=torch.float64).repeat(len(values), 1)
    rows[:, 1] = values
    return -table().log_prob(parameters(len(values)), rows)


def test_it_is_a_density_in_the_units_of_the_column() -> None:
    def density(gap: float) -> float:
        at = torch.tensor([[103.0, VALUE + SCALE * gap, 0, 1]], dtype=torch.float64)
        return float(table().value_log_prob(parameters(1), at)[0, 1].exp()) * SCALE

    total, _ = integrate.quad(density, -math.inf, math.inf)
    assert total == pytest.approx(1, abs=1e-7)
    assert density(3.7) == pytest.approx(stats.t(2).pdf(3.7), rel=1e-6)  # SCALE in float32


def test_its_draws_follow_it_whatever_the_decoder_says() -> None:
    uniforms = torch.rand(5000, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    draws = table().draw(parameters(5000), uniforms)[:, 1]
    assert stats.kstest(draws.numpy(), stats.t(2, VALUE, SCALE).cdf).pvalue > 1e-3
    assert torch.equal(table().mean(parameters(5000))[:, 1], torch.full((5000,), VALUE).double())


def test_the_surprise_of_a_change_is_finite_and_grows_with_it() -> None:
    changes = torch.tensor([0.0, 1e-4, 1e-3, 1e-2, 0.1, 1, 10, 149]).double()
    above, below = surprises(VALUE + changes), surprises(VALUE - changes)
    assert (above.diff() > 0).all()
    torch.testing.assert_close(above, below)
    assert (above - above[0])[4] > 10, "nats for 7 % of the value"
    assert (surprises(torch.tensor([-3e38, 3e38]).double()) - above[0] < 50).all()


def test_other_columns_score_as_without_it() -> None:
    with_it, without = table(), table(())
    rows = torch.tensor([[103.0, VALUE, 0, 1], [90.0, 7.0, 1, 0]], dtype=torch.float64)
    outputs = torch.randn(2, 8, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    ours, theirs = (
        likelihood.value_log_prob(likelihood.bounded(outputs), rows) for likelihood in (with_it, without)
    )
    assert torch.equal(ours[:, [0, 2, 3]], theirs[:, [0, 2, 3]])


def test_networks_neither_see_a_constant_nor_change_it() -> None:
    scaling = Scaling(SHIFT.numpy(), SCALES.numpy(), constants=(1,))
    rows = torch.tensor([ROW, [103.0, 1e30, 0, 1]])
    seen = Standardise(scaling)(rows)
    assert torch.equal(seen[0], seen[1])
    assert torch.equal(seen[:, 1], torch.zeros(2))
    made = Unstandardise(scaling)(torch.full((1, 4), 1e6))
    assert made[0, 1] == VALUE
