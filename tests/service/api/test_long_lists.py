"""Long lists of numbers in JSON are read piece by piece, and as by any reader of JSON."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.api import json_bodies
from service.errors import Malformed, Unfit

NUMBERS = st.one_of(st.integers(-(2**40), 2**40), st.floats(-1e30, 1e30), st.sampled_from([-0.0, 1e-320]))
ROWS = st.sampled_from([(), (1,), (3,), (1, 2, 2)])


def nested(values: list[Any], row: tuple[int, ...]) -> Any:
    return np.array(values, object).reshape(-1, *row).tolist()


def read(text: bytes, row: tuple[int, ...], *, flat: bool = True) -> np.ndarray:
    """The numbers of the only long list of a document."""
    rest, lists = json_bodies.cut_lists(text)
    ((mark, numbers),) = lists.items()
    assert json.loads(rest)["data"] == [mark]
    return json_bodies.read_list(numbers, row, np.dtype(np.float32), {int, float}, "data", flat=flat)


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short lists are read as long ones are."""
    monkeypatch.setattr(json_bodies, "_LONG_LIST_BYTES", 1)
    monkeypatch.setattr(json_bodies, "_PIECE_BYTES", 48)


@settings(
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.data(), ROWS, st.sampled_from([None, 1]), st.booleans(), st.booleans())
def test_the_numbers_are_those_of_another_reader(
    data: st.DataObject, row: tuple[int, ...], indent: int | None, is_flat: bool, is_last: bool
) -> None:
    rows = data.draw(st.integers(1, 12))
    size = rows * int(np.prod(row, dtype=int))
    values = data.draw(st.lists(NUMBERS, min_size=size, max_size=size))
    shaped = values if is_flat else nested(values, row)
    document = {"seed": 3, "data": shaped} | ({} if is_last else {"more": {"name": "b"}})
    with np.errstate(over="ignore"):
        expected = np.array(values, np.float32)
    np.testing.assert_array_equal(read(json.dumps(document, indent=indent).encode(), row), expected)


@pytest.mark.parametrize(
    "numbers",
    ["[1, 2], [3, 4", "1, 2], [3], [4, 5", "1, 2], [[3, 4]", "1, [2, 3], 4", "1, 2], 3, [4"],
)
def test_a_list_that_is_nested_otherwise_is_refused(numbers: str) -> None:
    with pytest.raises(Unfit):
        read(b'{"data": [[%b]]}' % numbers.encode(), (4,), flat=False)


@pytest.mark.parametrize(
    "numbers",
    ["1[2, 3", "1 2, 3", "1,, 2", ", 1", "1, ", "0x1, 2", "NaN, 1", "1e, 2", "-, 1", "01, 2", "1" * 99],
)
def test_what_is_no_json_is_refused(numbers: str) -> None:
    with pytest.raises((Malformed, Unfit)):
        read(b'{"data": [[%b]]}' % numbers.encode(), (2,))


@pytest.mark.parametrize("value", ["null", "true", "{}"])
def test_other_values_than_numbers_are_refused(value: str) -> None:
    text = b"[[1, %b]]" % value.encode()
    with pytest.raises(Unfit):
        json_bodies.read_list(text, (2,), np.dtype(np.float32), {int, float}, "data", flat=True)
