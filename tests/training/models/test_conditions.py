"""A model with a class condition computes for each row what the model of its class computes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.training.models.linear_gaussian import LATENT, WIDTH, linear_gaussian
from tests.training.tiny import digits, tiny_table
from training.anomaly.statistics import fit_statistics, path_features
from training.data import Dataset, load_dataset
from training.data.options import DataOptions
from training.models.conditions import one_hot
from training.models.gan import make_gan
from training.models.vae import Vae, elbo, importance_bound, make_vae, score_terms
from training.recipe import Recipe, RecipeError, parse_recipe

KINDS = [
    {"kind": "convolutional", "latent": 3, "channels": [4], "hidden": [16]},
    {"kind": "dense", "latent": 3, "hidden": [16], "gated": True},
]


def conditional(family: str, **changes: Any) -> Recipe:
    table = tiny_table(family) | changes
    table[family] = {**table[family], "conditional": True}
    return parse_recipe(table)


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return digits(conditional("vae"))


class Shifted(nn.Module):
    """A network whose inputs or outputs are those of another, shifted by what belongs to a class."""

    def __init__(self, network: nn.Module, shifts: Tensor, before: bool) -> None:
        super().__init__()
        self.network, self.shifts, self.before = network, shifts, before

    def forward(self, values: Tensor, labels: Tensor) -> Tensor:
        shift = (labels.double() @ self.shifts).reshape(-1, 1, 1, WIDTH)
        moved: Tensor = self.network(values - shift) if self.before else self.network(values) + shift
        return moved


def test_bounds_given_a_class_are_exact_on_a_linear_gaussian_model_shifted_by_it() -> None:
    vae, items, log_evidence = linear_gaussian()
    shifts = torch.tensor([[0.0] * WIDTH, [5.0] * WIDTH, [-3.0, 0, 0, 1, 0, 9]]).double()
    networks = Shifted(vae.encoder, shifts, before=True), Shifted(vae.decoder, shifts, before=False)
    model = Vae(*networks, vae.likelihood, LATENT, classes=3)
    labels = np.arange(len(items)) % 3
    moved = items + shifts[labels].reshape(-1, 1, 1, WIDTH)
    eps = torch.randn(len(items), 4, LATENT, generator=torch.Generator().manual_seed(0)).double()
    terms = score_terms(model.given(one_hot(labels, 3)), moved, eps)
    assert torch.allclose(importance_bound(terms), log_evidence, atol=1e-9)
    wrong = score_terms(model.given(one_hot((labels + 1) % 3, 3)), moved, eps)
    assert (elbo(wrong) < log_evidence - 1).all()


@pytest.mark.parametrize("network", KINDS, ids=lambda network: network["kind"])
def test_each_row_of_a_vae_has_the_terms_of_the_row_alone_with_every_draw(
    network: dict[str, Any], dataset: Dataset
) -> None:
    vae = make_vae(conditional("vae", network=network), dataset)
    items, labels = torch.from_numpy(dataset.items["test"][:6]), dataset.labels["test"][:6]
    eps = torch.randn(6, 5, 3)
    together = score_terms(vae.given(one_hot(labels, 10)), items, eps)
    for row in range(6):
        place = slice(row, row + 1)
        alone = score_terms(vae.given(one_hot(labels[place], 10)), items[place], eps[place])
        for whole, single in zip(together, alone, strict=True):
            assert torch.allclose(whole[place], single, atol=1e-4)
    others = score_terms(vae.given(one_hot((labels + 1) % 10, 10)), items, eps)
    assert not torch.isclose(together.log_likelihood, others.log_likelihood).any()


@pytest.mark.parametrize("network", KINDS, ids=lambda network: network["kind"])
def test_the_classes_of_a_gan_begin_again_after_as_many_rows_as_it_was_given(
    network: dict[str, Any], dataset: Dataset
) -> None:
    gan = make_gan(conditional("gan", network=network), dataset)
    nn.init.normal_(gan.discriminator.network.weights.weight)  # type: ignore[union-attr, arg-type]
    labels = one_hot(np.array([3, 1, 4]), 10)
    items = torch.from_numpy(dataset.items["test"][:6])
    twice = gan.given(labels).discriminate(items)
    halves = [gan.given(labels).discriminate(half) for half in (items[:3], items[3:])]
    assert torch.allclose(twice, torch.cat(halves), atol=1e-5)
    other = gan.given(one_hot(np.array([2, 2, 2]), 10))
    assert not torch.isclose(other.discriminate(items), twice).any()
    latents = torch.randn(3, 3)
    assert not torch.isclose(gan.given(labels).decode(latents), other.decode(latents)).all()


@pytest.mark.parametrize("family", ["vae", "gan"])
def test_a_condition_without_classes_is_refused(family: str) -> None:
    table = tiny_table(family)
    table["data"] = {"dataset": "digits", "keep": ["3"]}
    table[family] = {**table[family], "conditional": True}
    recipe = parse_recipe(table)
    make = make_vae if family == "vae" else make_gan
    with pytest.raises(RecipeError, match=rf"{family}.conditional came with .* the class '3' alone"):
        make(recipe, load_dataset(DataOptions(dataset="digits", keep=("3",))))


@pytest.mark.parametrize(
    ("family", "changes", "words"),
    [
        ("vae", {"vae": {"likelihood": "continuous-bernoulli", "prior": "vamp"}}, "pseudo-inputs are of no"),
        ("gan", {"gan": {"packing": 2}}, "judges single items of a class"),
    ],
)
def test_what_a_condition_does_not_go_with_is_refused(
    family: str, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(RecipeError, match=words):
        conditional(family, **changes)


def test_statistics_are_fitted_on_items_with_their_own_classes(dataset: Dataset) -> None:
    vae = make_vae(conditional("vae"), dataset)
    items, labels = torch.from_numpy(dataset.items["train"]), dataset.labels["train"]
    fitted = fit_statistics(vae, items, labels=labels)
    with torch.no_grad():
        features = [
            path_features(vae.given(one_hot(labels[labels == number], 10)), items[labels == number])
            for number in range(10)
        ]
    assert torch.allclose(fitted.path.centre, torch.cat(features).mean(0), rtol=1e-4)
