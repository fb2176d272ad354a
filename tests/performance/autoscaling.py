"""Simulates autoscaling over a day of traffic, from measured costs; draws it and prints a table.

    python -m tests.performance.autoscaling docs/capacity.png

A second is a step. In it every replica, of one core, has its share of the arrivals; what it cannot serve
waits. The autoscaler is Kubernetes's horizontal one as deploy/ sets it: every 15 s it wants signal / target
replicas and leaves a change of less than a tenth alone; in 30 s it doubles or adds two at most, and once it
has wanted fewer for five minutes it ends one a minute.
"""

from __future__ import annotations

import math
import sys
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import matplotlib.pyplot as plt
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# the figures behind docs/capacity.md, by make bench on one of two cores: later runs differ by a tenth
IN_FLIGHT: Final = np.array([0.0, 1.0, 4.0, 16.0, 64.0])
REQUESTS_PER_SECOND: Final = np.array([0.0, 1116.0, 1290.0, 1391.0, 1632.0])
CPU_SECONDS_PER_REQUEST: Final = np.array([888e-6, 888e-6, 730e-6, 669e-6, 577e-6])

CAPACITY: Final = float(REQUESTS_PER_SECOND[-1])
MAX_WAITING: Final = 65_536
SLOW_SECONDS: Final = 0.5
DAY_SECONDS: Final = 86_400
PERIOD_SECONDS: Final = 15
SETTLED_SECONDS: Final = 300
SIGNAL_SECONDS: Final = 30
"""The seconds over which a signal is averaged."""


def day(seed: int = 0) -> Floats:
    """Return the requests of each second: a daily wave, an hour's step, two spikes of five minutes, noise."""
    second = np.arange(DAY_SECONDS)
    hour = second / 3600
    load = 3250 - 2750 * np.cos((hour - 2) / 24 * 2 * np.pi)
    load[(hour >= 9) & (hour < 10)] += 3000
    for start, times in ((12.5, 2.0), (20.0, 3.0)):
        load[(hour >= start) & (hour < start + 1 / 12)] *= times
    noise = np.random.default_rng(seed).standard_normal(DAY_SECONDS // 60 + 1)
    mean: Floats = load * np.exp(0.05 * np.interp(second, np.arange(len(noise)) * 60.0, noise))
    return mean


@dataclass(frozen=True)
class Policy:
    """A signal to scale by, and its target for a replica; a target of 0 means always `least`."""

    name: str
    signal: Callable[[float, float], float]
    """The signal of one replica, by its arrivals per second and the requests that wait in it."""
    target: float
    least: int = 2
    most: int = 20
    start_seconds: int = 30


def cpu_cores(arrivals: float, waiting: float) -> float:
    """The CPU that a replica uses."""
    served = CAPACITY if waiting else min(arrivals, CAPACITY)
    return min(1.0, served * float(np.interp(served, REQUESTS_PER_SECOND, CPU_SECONDS_PER_REQUEST)))


def in_flight(arrivals: float, waiting: float) -> float:
    """The requests in a replica, waiting or being answered."""
    return waiting + float(np.interp(arrivals, REQUESTS_PER_SECOND, IN_FLIGHT))


@dataclass
class Course:
    """The course of a day, by the second."""

    replicas: Floats
    wait_seconds: Floats
    slow: float
    """Requests that waited longer than half a second."""
    refused: float
    served: float


class Fleet:
    """The replicas there are, and how many more or fewer are wanted."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self.ready = policy.least
        self._starting = deque[tuple[int, int]]()
        self._wanted = deque[int](maxlen=SETTLED_SECONDS // PERIOD_SECONDS)
        self._totals = deque([policy.least], maxlen=60 // PERIOD_SECONDS)

    @property
    def total(self) -> int:
        """Return the number of replicas, including those that are starting."""
        return self.ready + sum(number for _, number in self._starting)

    def start(self, second: int) -> None:
        """Count the replicas as ready that have started by now."""
        while self._starting and self._starting[0][0] <= second:
            self.ready += self._starting.popleft()[1]

    def scale(self, signal: float, second: int) -> None:
        """Follows the sum of all replicas' signals, as the module says."""
        policy, now = self._policy, self.total
        ratio = signal / policy.target / now
        wish = now if abs(ratio - 1) <= 0.1 else math.ceil(now * ratio)
        earlier = self._totals[max(0, len(self._totals) - 2)]  # half a minute ago
        wish = min(max(wish, policy.least), policy.most, max(2 * earlier, earlier + 2))
        self._wanted.append(wish)
        self._totals.append(now)
        if wish > now:
            self._starting.append((second + policy.start_seconds, wish - now))
        elif max(self._wanted) < now and now >= self._totals[0] and not self._starting:
            self.ready -= 1


def simulate(load: Floats, policy: Policy) -> Course:
    """The course of a load under a policy; what still waits at the end counts as served."""
    fleet, signals = Fleet(policy), deque[float](maxlen=SIGNAL_SECONDS)
    waiting = slow = refused = 0.0
    replicas, waits = np.empty(len(load)), np.empty(len(load))
    for second, arrivals in enumerate(load.tolist()):
        fleet.start(second)
        ready = fleet.ready
        waiting = max(0.0, waiting + arrivals - ready * CAPACITY)
        lost = max(0.0, waiting - ready * MAX_WAITING)
        waiting, refused = waiting - lost, refused + lost
        waits[second], replicas[second] = waiting / (ready * CAPACITY), fleet.total
        slow += (arrivals - lost) * (waits[second] > SLOW_SECONDS)
        signals.append(ready * policy.signal(arrivals / ready, waiting / ready))
        if policy.target and second % PERIOD_SECONDS == 0:
            fleet.scale(sum(signals) / len(signals), second)
    return Course(replicas, waits, slow, refused, float(load.sum()) - refused)


POLICIES: Final = (
    Policy("20 replicas, always", cpu_cores, 0, least=20),
    Policy("CPU at 50 %", cpu_cores, 0.5),
    Policy("CPU at 60 %", cpu_cores, 0.6),
    Policy("CPU at 70 %", cpu_cores, 0.7),
    Policy("CPU at 80 %", cpu_cores, 0.8),
    Policy("CPU at 60 %, ready after 5 s", cpu_cores, 0.6, start_seconds=5),
    Policy("CPU at 60 %, ready after 90 s", cpu_cores, 0.6, start_seconds=90),
    Policy("CPU at 60 %, at least 6", cpu_cores, 0.6, least=6),
    Policy("0.5 requests in flight", in_flight, 0.5),
    Policy("1 request in flight", in_flight, 1),
    Policy("4 requests in flight", in_flight, 4),
    Policy("16 requests in flight", in_flight, 16),
)
DRAWN: Final = ("CPU at 60 %", "CPU at 80 %", "1 request in flight")


def main(picture: Path) -> None:
    """Prints the table of all policies, and draws some."""
    load = day()
    courses = {policy.name: simulate(load, policy) for policy in POLICIES}
    heads = ("target", "replica hours", "most replicas", "longest wait, s", "waited over 0.5 s", "refused")
    lines = [f"| {' | '.join(heads)} |", "|---|" + "---:|" * 5]
    for name, course in courses.items():
        figures = (
            f"{course.replicas.sum() / 3600:.0f}", f"{course.replicas.max():.0f}",
            f"{course.wait_seconds.max():.1f}", f"{course.slow / load.sum():.2%}",
            f"{course.refused / load.sum():.2%}",
        )  # fmt: skip
        lines.append(f"| {name} | {' | '.join(figures)} |")
    sys.stdout.write("\n".join(lines) + "\n")
    draw(load, {name: courses[name] for name in DRAWN}, picture)


def draw(load: Floats, courses: dict[str, Course], picture: Path) -> None:
    """The load with each policy's replicas, and how long requests waited."""
    hours = np.arange(len(load)) / 3600
    figure, (above, below) = plt.subplots(2, 1, sharex=True, figsize=(9, 6), layout="constrained")
    above.plot(hours, load / CAPACITY, color="0.6", linewidth=1, label="load, in replicas' capacities")
    for style, (name, course) in zip(("-", "--", ":"), courses.items(), strict=True):
        above.plot(hours, course.replicas, style, label=name)
        below.plot(hours, course.wait_seconds, style, label=name)
    below.axhline(SLOW_SECONDS, color="0.6", linewidth=1)
    above.set_ylabel("replicas of one core")
    below.set(ylabel="wait beyond computing, s", xlabel="hour", xticks=range(0, 25, 3))
    above.legend(loc="upper left")
    figure.savefig(picture, dpi=110)
    plt.close(figure)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
