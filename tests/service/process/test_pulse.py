import asyncio
import itertools
import os
from collections.abc import Iterator

import pytest

from service.process.pulse import Pulse

HOUR_SECONDS = 3_600.0


def healthy() -> bool:
    return True


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """A loop that is never run, so that only a test's own beats are beaten."""
    made = asyncio.new_event_loop()
    yield made
    made.close()


def looks(pulse: Pulse, *times: float) -> list[bool]:
    return [pulse.is_silent(now) for now in times]


def test_the_beats_of_a_fork_are_seen_by_its_parent(loop: asyncio.AbstractEventLoop) -> None:
    pulse = Pulse(10)
    pulse.beat(loop, healthy)
    assert looks(pulse, *range(10)) == [False] * 10
    if not (child := os.fork()):
        pulse.beat(loop, healthy)
        os._exit(0)
    os.waitpid(child, 0)
    assert looks(pulse, *range(10, 20)) == [False] * 10


def test_one_that_beats_is_never_silent(loop: asyncio.AbstractEventLoop) -> None:
    pulse = Pulse(10)
    for now in range(100):
        pulse.beat(loop, healthy)
        assert looks(pulse, now, now + 0.5) == [False, False]


def test_one_that_stands_still_is_silent_after_that_time_until_it_beats(
    loop: asyncio.AbstractEventLoop,
) -> None:
    pulse = Pulse(10)
    pulse.beat(loop, healthy)
    assert looks(pulse, *range(11)) == [False] * 11
    assert looks(pulse, 11) == [True]
    pulse.beat(loop, healthy)
    assert looks(pulse, 12) == [False]


def test_the_time_in_which_the_supervisor_did_not_run_does_not_count(loop: asyncio.AbstractEventLoop) -> None:
    pulse = Pulse(10)
    pulse.beat(loop, healthy)
    assert looks(pulse, 0, HOUR_SECONDS, 2 * HOUR_SECONDS) == [False] * 3


def test_before_the_first_beat_none_is_missed() -> None:
    assert not any(looks(Pulse(10), *range(100)))


@pytest.mark.parametrize("seconds", [1.0, 30.0])
def test_looks_in_between_make_nothing_silent_sooner(loop: asyncio.AbstractEventLoop, seconds: float) -> None:
    pulse = Pulse(seconds)
    pulse.beat(loop, healthy)
    times = itertools.takewhile(lambda now: now < seconds, (n * seconds / 997 for n in itertools.count()))
    assert not any(looks(pulse, *times))


def test_one_whose_beats_say_so_is_failing_after_that_time_until_they_do_not(
    loop: asyncio.AbstractEventLoop,
) -> None:
    pulse = Pulse(10)
    pulse.beat(loop, healthy)
    assert [pulse.is_failing(now) for now in range(20)] == [False] * 20
    pulse.beat(loop, lambda: False)
    assert [pulse.is_failing(now) for now in range(20, 32)] == [False] * 10 + [True] * 2
    pulse.beat(loop, healthy)
    assert not pulse.is_failing(32)
