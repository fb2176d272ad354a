"""p-values of the single columns of a table."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from service.format.columns import Column
from service.numerics.calibration import ColumnCalibration, column_surprises

VALUES = st.integers(-9, 9).map(float) | st.just(float("nan"))


def calibration(known: np.ndarray) -> ColumnCalibration:
    return ColumnCalibration([values[~np.isnan(values)] for values in known.T])


def tables(columns: int) -> st.SearchStrategy[np.ndarray]:
    return hnp.arrays(np.float64, st.tuples(st.integers(1, 30), st.just(columns)), elements=VALUES)


@given(tables(3), tables(3))
def test_a_p_value_counts_the_columns_own_values_that_are_at_least_as_surprising(
    known: np.ndarray, new: np.ndarray
) -> None:
    found = calibration(known).p_values(new)
    n = (~np.isnan(known)).sum(axis=0)
    expected = (1 + np.sum(known[None] >= new[:, None], axis=1)) / (n + 1)
    assert np.array_equal(np.isnan(found), np.isnan(new))
    least = expected <= 1 / (n + 1)
    same = np.isclose(found, expected) | np.isnan(new)
    assert (same | (least & np.isclose(found, np.minimum(2 / (n + 1), 1)))).all()
    assert ((~same).sum(axis=1) <= np.maximum(0, (least & ~np.isnan(new)).sum(axis=1) - 1)).all()


def test_the_least_p_value_names_one_column_however_many_are_beyond_all_held_out_values() -> None:
    """It is the farthest from its median by its own spread, wherever that lies."""
    places = np.array([0.0, 1e5, -300, 7])
    known = np.random.default_rng(0).normal(size=(99, 4)) * [1, 10, 100, 1000] + places
    new = np.array([[50.0, 400, 500, 90_000], [3.5, 500, 0, 0], [9.0, float("nan"), 9000, 0]]) + places
    found = calibration(known).p_values(new)
    least = np.nanmin(found, axis=1, keepdims=True)
    assert (found == least).sum(axis=1).tolist() == [1, 1, 1]
    assert np.nanargmin(found, axis=1).tolist() == [3, 1, 2]
    assert np.isnan(found[2, 1])


def test_p_values_of_columns_flag_no_more_than_their_level() -> None:
    random = np.random.default_rng(1)
    known, new = random.normal(size=(199, 6)), random.normal(size=(20_000, 6))
    found = calibration(known).p_values(new)
    for level in (0.01, 0.05, 0.2):
        rank = int(level * 200)
        band = stats.betabinom.ppf([0.0005, 0.9995], len(new), rank, 200 - rank) / len(new)
        shares = (found <= level + 1e-12).mean(axis=0)
        assert (shares <= band[1]).all()
        assert (shares >= band[0] * 0.5).all()


def test_a_missing_value_has_no_surprise_whatever_the_graph_gives() -> None:
    columns = (Column(name="a"), Column(name="b", categories=("x", "y")))
    items = np.array([[1.0, 0, 1], [np.nan, np.nan, np.nan]], np.float32)
    found = column_surprises(np.ones((2, 2), np.float32), items, columns)
    assert found[0].tolist() == [1, 1]
    assert np.isnan(found[1]).all()


def test_a_column_without_held_out_values_takes_nothing_from_the_p_values_of_others() -> None:
    known = np.stack([np.arange(99.0), np.full(99, np.nan)], 1)
    found = calibration(known).p_values(np.array([[1e3, 1e9]]))
    assert found.tolist() == [[0.01, 1.0]]


def test_one_held_out_row_is_enough() -> None:
    found = calibration(np.array([[1.0, 2.0]])).p_values(np.array([[0.0, 5.0]]))
    assert found.tolist() == [[1.0, pytest.approx(0.5)]]
