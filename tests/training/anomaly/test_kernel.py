"""The kernel density of a table: it is a density, allows missing values, and is high at training rows."""

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import norm

from service.format.columns import column_places
from tests.training.models.likelihood_cases import COLUMNS, SCALING, dataset_for, table
from training.anomaly.kernel import MOST_ROWS, KernelDensity, fit_kernel_density
from training.data import SPLITS, Dataset, Items, Scaling

COLOUR, KIND = slice(1, 4), slice(5, 10)


def learned(train: Items, scaling: Scaling = SCALING) -> KernelDensity:
    dataset = replace(dataset_for("gaussian"), items=dict.fromkeys(SPLITS, train), scaling=scaling)
    return fit_kernel_density(dataset, 0)


def numbers(train: Items, **scaling: Any) -> Dataset:
    """A table of numbers alone, in the units of its columns."""
    ones = np.ones(train.shape[1], np.float32)
    return replace(
        dataset_for("gaussian"),
        items=dict.fromkeys(SPLITS, train),
        item_shape=train.shape[1:],
        columns=(),
        scaling=replace(Scaling(0 * ones, ones), **scaling),
    )


def surprise(kernel: KernelDensity, items: Items) -> np.ndarray:
    return kernel(torch.from_numpy(items)).double().numpy()


def test_it_is_a_density_of_numbers_in_their_own_units_times_probabilities_of_categories() -> None:
    kernel, row = learned(table(30)), table(1)[0]
    lengths, counts = np.linspace(900, 1100, 401), np.linspace(0.25 - 0.02, 0.25 + 0.02, 401)
    total = 0.0
    for colour, kind in itertools.product(range(3), range(5)):
        grid = np.tile(row, (401, 1))
        grid[:, COLOUR], grid[:, KIND] = np.eye(3)[colour], np.eye(5)[kind]
        grid[:, 0] = lengths
        for count in counts[::16]:
            grid[:, 4] = count
            density = np.exp(-surprise(kernel, grid.astype(np.float32)))
            total += density.sum() * (lengths[1] - lengths[0]) * (counts[16] - counts[0])
    assert total == pytest.approx(1, abs=0.01)


def test_a_missing_value_is_integrated_out() -> None:
    scaling = replace(SCALING, takes_missing=True)
    kernel, row = learned(table(30), scaling), table(1)
    lengths = np.linspace(900, 1100, 2001)
    grid = np.tile(row, (len(lengths), 1))
    grid[:, 0] = lengths
    marginal = np.exp(-surprise(kernel, grid)).sum() * (lengths[1] - lengths[0])
    row[0, 0] = np.nan
    assert np.exp(-surprise(kernel, row))[0] == pytest.approx(marginal, rel=1e-3)
    colours = np.tile(table(1), (3, 1))
    colours[:, COLOUR] = np.eye(3)
    row = colours[:1].copy()
    row[0, COLOUR] = np.nan
    assert np.exp(-surprise(kernel, row))[0] == pytest.approx(
        np.exp(-surprise(kernel, colours)).sum(), rel=1e-4
    )


def test_rows_that_lack_values_are_stored_and_rows_without_any_score_as_nothing() -> None:
    train = table(40)
    train[::3, 0], train[1::3, COLOUR] = np.nan, np.nan
    kernel = learned(train, replace(SCALING, takes_missing=True))
    assert np.isfinite(surprise(kernel, train)).all()
    assert surprise(kernel, np.full((1, 10), np.nan, np.float32)) == pytest.approx([0], abs=1e-5)


def test_it_does_not_depend_on_units_but_for_the_density_of_the_unit() -> None:
    rows = np.random.default_rng(0).normal(size=(50, 2)).astype(np.float32)
    plain = fit_kernel_density(numbers(rows), 0)
    scaled = fit_kernel_density(
        numbers(rows * 8 + 4, shift=np.full(2, 4, np.float32), scale=np.full(2, 8, np.float32)), 0
    )
    np.testing.assert_allclose(
        surprise(scaled, rows * 8 + 4), surprise(plain, rows) + 2 * np.log(8), rtol=1e-4
    )


def test_it_is_the_density_that_rows_were_drawn_from_blurred_by_the_kernel() -> None:
    random = np.random.default_rng(0)
    kernel = fit_kernel_density(numbers(random.normal(size=(3000, 1)).astype(np.float32)), 0)
    where = np.linspace(-2, 2, 41, dtype=np.float32)[:, None]
    blurred = norm.logpdf(where[:, 0], scale=np.hypot(1, kernel.bandwidth))
    assert np.abs(surprise(kernel, where) + blurred).mean() < 0.05


def test_fewer_rows_are_smoothed_more() -> None:
    rows = np.random.default_rng(0).normal(size=(2000, 3)).astype(np.float32)
    few, many = (fit_kernel_density(numbers(rows[:count]), 0).bandwidth for count in (20, 2000))
    assert few > 1.5 * many


def test_what_a_network_may_generalise_to_is_surprising_where_no_row_is() -> None:
    random = np.random.default_rng(0)
    angles = random.uniform(0, 2 * np.pi, 500)
    ring = np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32) + random.normal(0, 0.05, (500, 2))
    kernel = fit_kernel_density(numbers(ring.astype(np.float32)), 0)
    middle, on_it = surprise(kernel, np.array([[0, 0], [1, 0]], np.float32))
    assert middle > on_it + 4


def test_a_change_of_a_constant_is_an_anomaly_of_finite_surprise() -> None:
    rows = np.random.default_rng(0).normal(size=(60, 3)).astype(np.float32)
    rows[:, 1] = 7
    scaling = {"shift": np.array([0, 7, 0], np.float32), "scale": np.array([1, 7e-4, 1], np.float32)}
    kernel = fit_kernel_density(numbers(rows, **scaling, constants=(1,)), 0)
    changed = rows.copy()
    changed[:, 1] = 8
    gained = surprise(kernel, changed) - surprise(kernel, rows)
    np.testing.assert_allclose(gained, 1.5 * np.log(1 + 0.5 * (1 / 7e-4) ** 2), rtol=1e-3)


def test_the_farthest_row_has_a_finite_score_and_stored_rows_are_bounded() -> None:
    rows = np.zeros((MOST_ROWS + 1000, 2), np.float32)
    rows[:, 0] = np.arange(len(rows)) % 7
    kernel = fit_kernel_density(numbers(rows), 0)
    assert len(kernel.rows) == MOST_ROWS
    far, near = surprise(kernel, np.array([[3e38, -3e38], [1, 0]], np.float32))
    assert near < far < np.inf


def test_the_columns_of_these_tests_are_those_of_the_cases() -> None:
    places = {column.name: place for column, place in column_places(COLUMNS)}
    assert (places["colour"], places["kind"]) == (COLOUR, KIND)
