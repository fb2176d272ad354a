"""Sections for tables: the columns of the data, of samples and of reconstructions.

Shapes: N rows, F features.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from service.format.columns import Column, column_places
from training.loop.noise import Noise
from training.models.conditions import given_labels
from training.models.priors import prior_latents
from training.models.vae import Vae, reconstruct
from training.report.page import Section, Table
from training.report.reading import Trained

_SAMPLES = 1000
_TEST_ROWS = 1000
_MOST_NUMBERS = 100
_MOST_CATEGORIES = 12
"""The most categories shown of a column; the rarer ones are added up."""
_LEAST_UNIFORM = 2.0**-24
"""Half the distance between the uniforms of torch; it replaces 0, which has no inverse."""


def columns_section(vae: Vae, trained: Trained) -> Section:
    """Compare the columns of training rows and of samples, in their own units."""
    train, train_labels = trained.first("train", len(trained.dataset.items["train"]))
    test, test_labels = trained.first("test", _TEST_ROWS)
    of_samples = given_labels(vae, np.resize(train_labels, _SAMPLES))
    samples = draw_rows(of_samples, trained.noise(), _SAMPLES)
    rebuilt = reconstruct(given_labels(vae, test_labels), test)
    numbers, tables = [], []
    for column, place in column_places(trained.dataset.columns):
        if column.categories:
            there = ~torch.isnan(test[:, place.start])
            wrong = float((test[there, place].argmax(1) != rebuilt[there, place].argmax(1)).double().mean())
            seen = train[~torch.isnan(train[:, place.start]), place]
            tables.append(_categories(column, seen, samples[:, place], wrong))
        else:
            numbers.append(
                _number(column, *(rows[:, place.start] for rows in (train, samples, test, rebuilt)))
            )
    if numbers:
        tables.insert(0, _numbers(numbers))
    return Section(
        "Columns",
        (
            f"Training rows, {len(samples):,} samples drawn from the model, and the errors of the "
            f"reconstructions of {len(test):,} test rows: for numbers the root of the mean squared error, "
            "for categories the share of rows in which the most probable one is wrong.",
        ),
        tables=tuple(tables),
    )


def draw_rows(vae: Vae, noise: Noise, rows: int) -> Tensor:
    """Draw latents from the prior and a row from the likelihood at each; returns (rows, F)."""
    latents = prior_latents(vae.components(), noise.normal(rows, vae.latent), noise.uniform(rows))
    parameters = vae.decode(latents)
    features = parameters.shape[1] // vae.likelihood.parameters_per_value
    return vae.likelihood.draw(parameters, noise.uniform(rows, features).clamp(min=_LEAST_UNIFORM))


def _number(column: Column, train: Tensor, samples: Tensor, test: Tensor, rebuilt: Tensor) -> tuple[str, ...]:
    train = train[~torch.isnan(train)]
    spread = float(train.double().std())
    error = float((rebuilt - test)[~torch.isnan(test)].double().square().mean().sqrt())
    means = float(train.double().mean()), float(samples.double().mean())
    figures = (*means, spread, float(samples.double().std()), error)
    share = error / spread if spread else math.nan  # a column that never varies has no unit
    texts = (*(f"{figure:.5g}" for figure in figures), f"{share:.2f}")
    return (column.name, *("" if text == "nan" else text for text in texts))


def _numbers(rows: list[tuple[str, ...]]) -> Table:
    few = f" (the first {_MOST_NUMBERS} of {len(rows)})" if len(rows) > _MOST_NUMBERS else ""
    return Table(
        head=(
            "column",
            "mean, data",
            "mean, samples",
            "standard deviation, data",
            "standard deviation, samples",
            "error of reconstruction",
            "in standard deviations",
        ),
        rows=tuple(rows[:_MOST_NUMBERS]),
        align="lrrrrrr",
        caption=f"Numbers{few}",
    )


def _categories(column: Column, train: Tensor, samples: Tensor, wrong: float) -> Table:
    shares = torch.stack([train.double().mean(0), samples.double().mean(0)], 1)
    order = shares[:, 0].argsort(descending=True, stable=True).tolist()
    rows = [(column.categories[place], *_percent(shares[place])) for place in order[:_MOST_CATEGORIES]]
    rest = order[_MOST_CATEGORIES:]
    if rest:
        rows.append((f"{len(rest)} others", *_percent(shares[rest].sum(0))))
    return Table(
        head=("category", "data", "samples"),
        rows=tuple(rows),
        align="lrr",
        caption=column.name if math.isnan(wrong) else f"{column.name} ({wrong:.1%} wrong)",
    )


def _percent(shares: Tensor) -> tuple[str, str]:
    return f"{float(shares[0]):.1%}", f"{float(shares[1]):.1%}"
