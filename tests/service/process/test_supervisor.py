from itertools import pairwise

import pytest

from service.process.supervisor import LONGEST_DELAY_SECONDS, RELAPSE_SECONDS, Backoff


def test_a_replica_that_dies_now_and_then_is_restarted_at_once() -> None:
    backoff = Backoff()
    assert [backoff.delay_seconds(death * RELAPSE_SECONDS) for death in range(5)] == [0] * 5


@pytest.mark.parametrize("life_seconds", [0.0, 1.0, 20.0])
def test_one_that_keeps_dying_is_restarted_later_and_later_but_never_given_up(life_seconds: float) -> None:
    backoff, now, delays = Backoff(), 0.0, []
    for _ in range(10):
        delays.append(backoff.delay_seconds(now))
        now += delays[-1] + life_seconds
    assert delays[0] == 0
    assert all(later > sooner or later == LONGEST_DELAY_SECONDS for sooner, later in pairwise(delays))
    assert delays[-1] == LONGEST_DELAY_SECONDS
    assert backoff.delay_seconds(now + RELAPSE_SECONDS) == 0
