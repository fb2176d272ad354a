"""Laws of every likelihood."""

import itertools
import math

import pytest
import torch

from service.format.manifest import Support
from tests.training.models.likelihood_cases import (
    COLUMNS,
    DISCRETE,
    NAMES,
    SCALING,
    dataset_for,
    in_float64,
    likelihood_of,
)
from training.models.likelihoods import Likelihood, SupportError, make_likelihood
from training.models.likelihoods.likelihood import softplus
from training.options import VaeOptions

EXTREME_OUTPUTS = (-1e30, -1e4, -30.0, 0.0, 30.0, 1e4, 1e30)
EXTREME_UNIFORMS = (1e-45, 1.2e-38, 2.0**-24, 0.5, 1 - 2.0**-24)


class Softplus(torch.nn.Module):
    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return softplus(values)


every_likelihood = pytest.mark.parametrize("name", NAMES)


def items_for(name: str, rows: int) -> torch.Tensor:
    return torch.from_numpy(dataset_for(name).items["train"][:rows])


def random_outputs(likelihood: Likelihood, items: torch.Tensor, spread: float = 3.0) -> torch.Tensor:
    """Draw outputs of a decoder for the items: one number for every parameter of every value."""
    shape = (len(items), likelihood.parameters_per_value * items.shape[1], *items.shape[2:])
    return spread * torch.randn(shape, generator=torch.Generator().manual_seed(1))


def extreme_outputs(likelihood: Likelihood, item: torch.Tensor) -> torch.Tensor:
    """Every pair of extreme outputs as the first and the second parameter of every value."""
    pairs = torch.tensor(list(itertools.product(EXTREME_OUTPUTS, repeat=likelihood.parameters_per_value)))
    parts = [pairs[:, [i]].expand(-1, item.numel()) for i in range(likelihood.parameters_per_value)]
    return torch.cat(parts, 1).reshape(len(pairs), -1, *item.shape[1:])


@every_likelihood
def test_values_and_gradients_are_finite_at_extreme_outputs_of_a_decoder(name: str) -> None:
    likelihood = likelihood_of(name)
    for item in (*items_for(name, 3), *(torch.full_like(items_for(name, 1)[0], end) for end in (0.0, 1.0))):
        outputs = extreme_outputs(likelihood, item).requires_grad_()
        parameters = likelihood.bounded(outputs)
        for values in (
            likelihood.log_prob(parameters, item.expand(len(outputs), *item.shape)),
            likelihood.mean(parameters),
        ):
            (gradient,) = torch.autograd.grad(values.sum(), outputs, retain_graph=True)
            assert torch.isfinite(values).all()
            assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("name", DISCRETE)
def test_a_probability_is_never_above_1_in_float32(name: str) -> None:
    likelihood = likelihood_of(name)
    items = items_for(name, 1)
    outputs = torch.linspace(-40, 40, 4001)[:, None, None, None].expand(-1, 1, *items.shape[2:])
    for item in (items, torch.zeros_like(items), torch.ones_like(items)):
        for second in (-1e4, 0.0, 1e4) if likelihood.parameters_per_value == 2 else (None,):
            both = outputs if second is None else torch.cat([outputs, torch.full_like(outputs, second)], 1)
            every = item.expand(len(outputs), *item.shape[1:])
            assert (likelihood.log_prob(likelihood.bounded(both), every) <= 0).all()


@every_likelihood
def test_float32_agrees_with_float64(name: str) -> None:
    single, items = likelihood_of(name), items_for(name, 40)
    for spread in (0.1, 3.0, 1e4):
        # rounded once for both, so that the gap is the likelihood's own loss
        parameters = single.bounded(random_outputs(single, items, spread))
        double = in_float64(likelihood_of(name))
        for ours, exact in (
            (single.log_prob(parameters, items), double.log_prob(parameters.double(), items.double())),
            (single.mean(parameters), double.mean(parameters.double())),
        ):
            assert torch.allclose(ours.double(), exact, rtol=2e-6, atol=2e-4)


@every_likelihood
def test_the_values_of_an_item_add_up_to_its_log_likelihood(name: str) -> None:
    likelihood, items = likelihood_of(name), items_for(name, 20)
    parameters = likelihood.bounded(random_outputs(likelihood, items))
    values = likelihood.value_log_prob(parameters, items)
    assert values.shape == items.shape
    torch.testing.assert_close(values.flatten(1).sum(1), likelihood.log_prob(parameters, items))


@pytest.mark.parametrize("name", [name for name in NAMES if name != "gaussian"])
def test_no_parameters_are_better_than_the_best_and_some_are_as_good(name: str) -> None:
    likelihood, levels = likelihood_of(name), torch.linspace(0, 1, 2 if name == "bernoulli" else 256)
    items = levels.reshape(1, 1, 1, -1)
    best = likelihood.best_log_prob(items)
    assert best is not None
    outputs = torch.cat([-(far := torch.logspace(-3, 5, 300)), torch.zeros(1), far])
    if likelihood.parameters_per_value == 2:
        # locations on the levels, which a decoder's outputs reach somewhere, and every scale
        grid = torch.cat([torch.linspace(-1, 1, 6001), torch.tensor([-1e9, 1e9])])
        outputs = torch.cat(
            [torch.stack([grid, torch.full_like(grid, s)], 1) for s in (-1e5, -3.0, 0.0, 9.0)]
        )
    parameters = likelihood.bounded(outputs.reshape(len(outputs), -1, 1, 1))
    values = likelihood.value_log_prob(parameters, items.expand(len(outputs), *items.shape[1:]))
    assert (values <= best + 1e-5).all()
    assert (values.amax(0, keepdim=True) >= best - 0.02).all()


def test_the_best_of_a_table_is_not_defined_as_its_scales_are_bounded_by_us_alone() -> None:
    assert likelihood_of("gaussian").best_log_prob(items_for("gaussian", 2)) is None


@every_likelihood
def test_a_residual_is_small_where_the_mean_is_near(name: str) -> None:
    likelihood, items = likelihood_of(name), items_for(name, 2)
    parameters = likelihood.bounded(random_outputs(likelihood, items))
    scale = SCALING.scale if name == "gaussian" else 1.0
    gaps = ((items - likelihood.mean(parameters)) / torch.as_tensor(scale)).double()
    torch.testing.assert_close(likelihood.residual(parameters, items).double(), gaps, rtol=1e-3, atol=1e-3)


@every_likelihood
def test_gradients_are_the_derivatives(name: str) -> None:
    likelihood = in_float64(likelihood_of(name))
    items = items_for(name, 2).double()
    outputs = random_outputs(likelihood, items).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda o: likelihood.log_prob(likelihood.bounded(o), items), (outputs,))
    assert torch.autograd.gradcheck(lambda o: likelihood.mean(likelihood.bounded(o)), (outputs,))


@every_likelihood
def test_draws_are_finite_and_inside_the_support(name: str) -> None:
    likelihood, items = likelihood_of(name), items_for(name, 50)
    everywhere = torch.rand(items.shape, generator=torch.Generator().manual_seed(2))
    for outputs in (random_outputs(likelihood, items), extreme_outputs(likelihood, items[0])):
        parameters = likelihood.bounded(outputs)
        shape = (len(outputs), *items.shape[1:])
        at_the_ends = [torch.full(shape, uniform) for uniform in EXTREME_UNIFORMS]
        for uniforms in (*at_the_ends, everywhere[:1].clamp(min=2.0**-24).expand(shape)):
            draws = likelihood.draw(parameters, uniforms)
            assert draws.dtype == torch.float32
            assert torch.isfinite(draws).all()
            likelihood.check_support(draws)


@every_likelihood
def test_draws_go_one_way_as_the_uniform_rises(name: str) -> None:
    likelihood, items = likelihood_of(name), items_for(name, 1)
    uniforms = torch.linspace(2.0**-24, 1 - 2.0**-24, 2001)
    outputs = random_outputs(likelihood, items).expand(len(uniforms), *[-1] * (items.dim() - 1))
    shape = (-1, *[1] * (items.dim() - 1))
    draws = likelihood.draw(likelihood.bounded(outputs), uniforms.reshape(shape).expand(-1, *items.shape[1:]))
    if name == "gaussian":
        # a category is the place of its 1
        parts = torch.split(draws, [column.features for column in COLUMNS], dim=1)
        draws = torch.stack([part.argmax(1) if part.shape[1] > 1 else part[:, 0] for part in parts], 1)
    steps = draws.diff(dim=0) * (-1 if name == "bernoulli" else 1)
    # where the continuous Bernoulli is nearly uniform, its last digits may turn
    assert (steps >= (-2e-6 if name == "continuous-bernoulli" else 0)).all()
    assert (steps > 0).any()


@every_likelihood
def test_the_mean_is_that_of_many_draws(name: str) -> None:
    likelihood, items = likelihood_of(name), items_for(name, 1)
    parameters = likelihood.bounded(random_outputs(likelihood, items, 1.0))
    uniforms = torch.rand(20_000, *items.shape[1:], generator=torch.Generator().manual_seed(4))
    draws = likelihood.draw(
        parameters.expand(len(uniforms), *parameters.shape[1:]), uniforms.clamp(min=2.0**-24)
    )
    error = (draws.double().mean(0) - likelihood.mean(parameters)[0]).abs()
    # the discretised logistic's closed form is within 0.023 levels
    slack = 0.023 / 255 if name == "discretised-logistic" else 1e-6
    assert (error <= 5 * draws.std(0) / math.sqrt(len(draws)) + slack).all()


@pytest.mark.parametrize(
    ("name", "values", "way_out"),
    [
        ("bernoulli", [0.5, -1.0, 2.0, math.nan], "binarise the data or use 'continuous-bernoulli'"),
        ("continuous-bernoulli", [-0.1, 1.5, math.nan, math.inf, -math.inf], "scale the data"),
        (
            "discretised-logistic",
            [0.5, 0.1 + 2e-3 / 255, -1 / 255, 256 / 255, math.nan, math.inf],
            "use data of 8 bits, or the likelihood 'continuous-bernoulli'",
        ),
    ],
)
def test_pictures_outside_the_support_are_refused_with_the_way_out(
    name: str, values: list[float], way_out: str
) -> None:
    for value in values:
        items = items_for(name, 2)
        items[1, 0, 2, 3] = value
        with pytest.raises(SupportError) as caught:
            likelihood_of(name).check_support(items)
        assert f"1 of {items.numel()} values" in str(caught.value)
        assert f"the first {value:g}" in str(caught.value)
        assert way_out in str(caught.value)


@every_likelihood
def test_the_items_of_a_fitting_dataset_are_accepted(name: str) -> None:
    likelihood_of(name).check_support(items_for(name, 80))


@pytest.mark.parametrize("name", [name for name in NAMES if name != "gaussian"])
def test_a_likelihood_of_pictures_refuses_a_table_and_says_which_fits(name: str) -> None:
    with pytest.raises(SupportError, match=rf"'{name}' came with items of shape \[10\].*use 'gaussian'"):
        make_likelihood(VaeOptions.model_validate({"likelihood": name}), dataset_for("gaussian"))


def test_the_likelihood_of_tables_refuses_pictures_and_says_which_fit() -> None:
    with pytest.raises(SupportError, match=r"no table; use 'bernoulli', .* or 'discretised-logistic'"):
        make_likelihood(VaeOptions(likelihood="gaussian"), dataset_for("bernoulli"))


def test_every_likelihood_has_its_own_name_and_support() -> None:
    supports: dict[str, Support] = {name: likelihood_of(name).support for name in NAMES}
    assert list(supports.values()) == ["binary", "unit_interval", "eight_bit", "real"]
    assert [likelihood_of(name).name for name in NAMES] == list(NAMES)


def test_softplus_of_graphs_is_that_of_torch_and_of_operations_on_whole_vectors() -> None:
    values = torch.cat([torch.linspace(-120, 120, 4092), torch.tensor([0.0, -0.0, 1e-30, 1e4, -1e30])])
    values = values.reshape(-1, 17)
    program = torch.export.export(Softplus(), (values,))
    exact = torch.nn.functional.softplus(values.double())
    assert ((program.module()(values) - exact).abs() <= 1.2e-7 * (1 + values.abs())).all()
    assert not any("softplus" in str(node.target) for node in program.graph.nodes)
    assert torch.equal(softplus(values), torch.nn.functional.softplus(values))
