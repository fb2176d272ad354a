from __future__ import annotations

import pytest

from . import prices
from .load import wrk_is_there

pytestmark = [
    pytest.mark.performance,
    pytest.mark.skipif(not wrk_is_there(), reason="wrk is not installed; on Debian: apt-get install wrk"),
    pytest.mark.timeout(300),
]


def test_the_service_answers_without_any_of_its_promises_and_each_has_a_price() -> None:
    found = prices.measured(rounds=2, seconds=0.2)
    table = prices.table(found)
    assert all(len(values) == 2 and min(values) > 0 for values in found.values())
    for promise in prices.PROMISES:
        assert f"| {promise} |" in table
