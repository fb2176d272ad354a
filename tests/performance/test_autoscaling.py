import numpy as np
import pytest

from tests.performance.autoscaling import (
    CAPACITY,
    DAY_SECONDS,
    MAX_WAITING,
    PERIOD_SECONDS,
    Policy,
    cpu_cores,
    day,
    in_flight,
    simulate,
)

FIXED = Policy("two, always", cpu_cores, 0, least=2)


def steady(replicas: float, seconds: int = 1200) -> np.ndarray:
    """Return the load that so many replicas can bear."""
    return np.full(seconds, replicas * CAPACITY)


def test_below_capacity_nothing_waits_and_above_it_the_queue_grows_by_the_excess() -> None:
    assert simulate(steady(1.9), FIXED).wait_seconds.max() == 0
    assert simulate(steady(3.0, 10), FIXED).wait_seconds.tolist() == pytest.approx(np.arange(1, 11) / 2)


def test_what_no_queue_has_room_for_is_refused_and_every_request_is_counted_once() -> None:
    load = steady(10.0, 100)
    course = simulate(load, FIXED)
    assert course.wait_seconds.max() == pytest.approx(MAX_WAITING / CAPACITY)
    assert course.served + course.refused == pytest.approx(load.sum())
    assert course.refused == pytest.approx(load.sum() - 100 * 2 * CAPACITY - 2 * MAX_WAITING)


@pytest.mark.parametrize("signal", [cpu_cores, in_flight])
def test_a_steady_load_ends_with_replicas_that_have_about_their_target(signal: object) -> None:
    policy = Policy("half", signal, 0.5)  # type: ignore[arg-type]
    course = simulate(steady(4.0), policy)
    at_the_end = policy.signal(4.0 * CAPACITY / course.replicas[-1], 0)
    assert at_the_end <= 0.5 * 1.1
    assert course.wait_seconds[-1] == 0


def test_replicas_help_only_once_they_have_started() -> None:
    def backlog(start_seconds: int) -> float:
        policy = Policy("", cpu_cores, 0.5, start_seconds=start_seconds)
        return float(simulate(steady(3.0), policy).wait_seconds.max())

    assert backlog(PERIOD_SECONDS) < backlog(60) < backlog(120)


def test_fewer_replicas_are_kept_only_after_five_quiet_minutes_one_a_minute_and_no_fewer_than_the_least() -> (
    None
):
    course = simulate(np.concatenate([steady(4.0), steady(0.1, 3600)]), Policy("", cpu_cores, 0.5))
    after = course.replicas[1200:]
    assert after[:280].min() == course.replicas[1199]
    assert np.diff(after).min() == -1
    assert after[-1] == 2


def test_a_day_is_the_same_at_every_run() -> None:
    assert len(day()) == DAY_SECONDS
    assert np.array_equal(day(), day())
    assert day().min() > 0
