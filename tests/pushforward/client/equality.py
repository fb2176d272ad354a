"""Results that are equal bit for bit."""

from typing import Any

import numpy as np

from pushforward.results import SCORE_FIELDS, ItemScores


def assert_equal(one: Any, other: Any) -> None:
    """The same type, dtypes and bits."""
    assert type(one) is type(other)
    if isinstance(one, np.ndarray):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
    elif isinstance(one, ItemScores):
        for name in SCORE_FIELDS:
            assert getattr(one, name) == getattr(other, name)
        assert one.id_name == other.id_name
        assert_equal(one.ids, other.ids)
        assert list(one.table()) == list(other.table())
        for name, column in one.table().items():
            assert_equal(column, other.table()[name])
    elif isinstance(one, tuple):
        for part, counterpart in zip(one, other, strict=True):
            assert_equal(part, counterpart)
    else:
        assert one == other
