"""One of every likelihood, and tiny datasets and VAEs that fit them."""

from typing import get_args

import numpy as np
import torch

from service.format.columns import Column
from training.data import SPLITS, Dataset, Items, Scaling
from training.models.likelihoods import Likelihood, make_likelihood
from training.models.vae import Vae, make_vae, with_fixed_prior
from training.options import VaeOptions
from training.recipe import parse_recipe

NAMES = get_args(VaeOptions.model_fields["likelihood"].annotation)
DISCRETE = ("bernoulli", "discretised-logistic")

COLUMNS = (
    Column(name="length"),
    Column(name="colour", categories=("blue", "green", "red")),
    Column(name="count"),
    Column(name="kind", categories=("a", "b", "c", "d", "e")),
)
SCALING = Scaling(
    np.array([1000, 0, 0, 0, 0.25, 0, 0, 0, 0, 0], np.float32),
    np.array([5, 1, 1, 1, 1e-3, 1, 1, 1, 1, 1], np.float32),
)
SIDE = 5
ROWS = 80


def pictures(name: str, rows: int) -> Items:
    """Random pictures that the likelihood has a probability for."""
    pixels = np.random.default_rng(0).random((rows, 1, SIDE, SIDE), dtype=np.float32)
    if name == "bernoulli":
        return pixels.round()
    return np.round(pixels * 255) / np.float32(255) if name == "discretised-logistic" else pixels


def table(rows: int) -> Items:
    """Random rows of COLUMNS."""
    random = np.random.default_rng(0)
    parts = [
        np.eye(len(column.categories))[random.integers(len(column.categories), size=rows)]
        if column.categories
        else random.normal(SCALING.shift[first], SCALING.scale[first], (rows, 1))
        for column, first in zip(COLUMNS, (0, 1, 4, 5), strict=True)
    ]
    return np.concatenate(parts, axis=1).astype(np.float32)


def dataset_for(name: str) -> Dataset:
    """Random items in the support of the likelihood of that name."""
    is_table = name == "gaussian"
    items = table(ROWS) if is_table else pictures(name, ROWS)
    return Dataset(
        name="random",
        source="random items",
        item_shape=items.shape[1:],
        class_names=(),
        items=dict.fromkeys(SPLITS, items),
        labels=dict.fromkeys(SPLITS, np.zeros(ROWS, np.int64)),
        columns=COLUMNS if is_table else (),
        scaling=SCALING if is_table else None,
    )


def likelihood_of(name: str) -> Likelihood:
    """The likelihood as a recipe would make it."""
    return make_likelihood(VaeOptions.model_validate({"likelihood": name}), dataset_for(name))


def tiny_vae(likelihood: str, prior: str, dataset: Dataset | None = None) -> Vae:
    """Random weights; the 25 values of a picture and the 10 of a row fill no whole vector of a processor."""
    torch.manual_seed(0)
    recipe = parse_recipe(
        {
            "name": "tiny",
            "data": {"dataset": "digits", "binarise": "dynamic" if likelihood == "bernoulli" else "none"},
            "network": {"kind": "dense", "latent": 3, "hidden": [16]},
            "vae": {"likelihood": likelihood, "prior": prior, "prior_components": 7},
            "loop": {"steps": 1},
        }
    )
    return with_fixed_prior(make_vae(recipe, dataset or dataset_for(likelihood))).eval()


def in_float64(likelihood: Likelihood) -> Likelihood:
    """The same with its buffers, if it has any, in double precision."""
    return likelihood.double() if isinstance(likelihood, torch.nn.Module) else likelihood
