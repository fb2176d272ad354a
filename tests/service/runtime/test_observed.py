"""Draws of a table in the form of its rows."""

import csv
import io

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from service.format.columns import LARGEST_WHOLE, Column
from service.media.tables.writing import csv_text
from service.runtime.observed import ObservedForm

DRAWS = st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=20)


@st.composite
def columns(draw: st.DrawFn) -> Column:
    """Columns of numbers whose range has their decimals."""
    decimals = draw(st.none() | st.integers(0, 6))
    if decimals is None:
        ends = sorted(draw(st.tuples(st.floats(-1e30, 1e30), st.floats(-1e30, 1e30))))
    else:
        largest = LARGEST_WHOLE // 10**decimals
        whole = st.integers(-largest, largest)
        ends = sorted(number / 10**decimals for number in draw(st.tuples(whole, whole)))
    return Column(name="number", value_range=(ends[0], ends[1]), decimals=decimals)


@given(columns(), DRAWS)
def test_a_draw_becomes_the_nearest_number_of_its_column(column: Column, drawn: list[float]) -> None:
    assert column.value_range is not None
    values = np.array(drawn, np.float32)[:, None]
    found = ObservedForm([column]).apply(values)
    inside = np.clip(values.astype(np.float64), *column.value_range)
    half = 0.0 if column.decimals is None else 0.5 * 10.0**-column.decimals
    assert (np.abs(found - inside) <= half + 2.0**-23 * np.abs(inside) + 2.0**-149).all()
    low, high = np.array(column.value_range, np.float32)
    assert ((found >= low) & (found <= high)).all()
    assert not np.signbit(found[found == 0]).any(), "no minus before a zero"
    np.testing.assert_array_equal(ObservedForm([column]).apply(found), found)


@given(columns(), DRAWS)
def test_a_draw_is_written_with_no_more_decimals_than_its_column_has(
    column: Column, drawn: list[float]
) -> None:
    if column.decimals is None:
        return
    found = ObservedForm([column]).apply(np.array(drawn, np.float32)[:, None])[:, 0]
    for (cell,) in [*csv.reader(io.StringIO(csv_text({"number": found})))][1:]:
        assert len(cell.partition(".")[2]) <= column.decimals or "e-" in cell


def test_categories_and_columns_without_bounds_stay_as_they_were_drawn() -> None:
    table = (
        Column(name="free"),
        Column(name="colour", categories=("red", "blue")),
        Column(name="age", value_range=(18.0, 90.0), decimals=0),
    )
    drawn = np.array([[0.3, 0, 1, 41.6], [-7.5, 1, 0, -2]], np.float32)
    found = ObservedForm(table).apply(drawn)
    np.testing.assert_array_equal(found, np.array([[0.3, 0, 1, 42], [-7.5, 1, 0, 18]], np.float32))
    assert ObservedForm(table[:2]).apply(drawn[:, :3]) is not None
