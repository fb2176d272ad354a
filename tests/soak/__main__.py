"""`make soak`, or `python -m tests.soak`: mixed load for minutes, and what it leaves behind.

Clients ask everything that can be asked, well and badly, leave, stall and say nothing, while versions come
and go. Every status must be one that is right for its question, every answer the same bytes as before; after
the warm-up memory must not grow by one per cent in ten minutes (runs of ten minutes or more), and whenever
nothing is asked, nothing may be left: no waiting row, no byte in flight, no file descriptor more than at the
first such moment. Linux only.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import grpc

from service.format.aliases import change_alias
from tests.conftest import REPOSITORY
from tests.damage import change_manifest, flip_a_byte
from tests.performance.arguments import positive
from tests.ports import free_port
from tests.serving import RunningService, running_service
from tests.soak.asking import Client, Findings, Question
from tests.soak.bad import bad_questions
from tests.soak.good import good_questions
from tests.soak.picture import draw
from tests.soak.readings import Quiet, Reading, read_processes, read_quiet, slope_of
from tests.toy import publish_toy

PICTURE, GAN, TABLE, SWAPPED = "digits-vae", "ring-gan", "breast-cancer-vae", "toy-vae"
_IDLE_SECONDS: Final = 2
_READ_SECONDS: Final = 0.5
_SWAP_SECONDS: Final = 4.0
_PATIENCE_SECONDS: Final = 20.0
_LONGEST_ANSWER_SECONDS: Final = 120.0
_MOST_DESCRIPTORS_MORE: Final = 2
_FEWEST_ROUNDS: Final = 6
"""The least number of rounds, of a minute or less each; the first third of them is the warm-up."""
_FEWEST_MINUTES_OF_A_SLOPE: Final = 10
"""A shorter run reports the growth of memory but does not judge it: all of it is warm-up."""


class Soak:
    """The service, its clients, and the readings of its resources."""

    def __init__(self, service: RunningService, rpc_port: int, given: argparse.Namespace) -> None:
        self.findings = Findings()
        self.rounds: list[list[Reading]] = []
        self.quiet: list[Quiet] = []
        self.swaps = 0
        self._service = service
        self._given = given
        self._round_count = max(_FEWEST_ROUNDS, round(given.minutes))
        self._warm_up = self._round_count // 3
        self._questions: list[Question] = [
            *good_questions(PICTURE, GAN, TABLE, SWAPPED),
            *bad_questions(PICTURE, _IDLE_SECONDS),
        ]
        self._rpc = grpc.insecure_channel(f"127.0.0.1:{rpc_port}")
        self._go = threading.Event()
        self._done = threading.Event()
        self._pausing = threading.Barrier(given.clients + 1)
        self._began = time.monotonic()

    def run(self, models: Path, aside: Path) -> None:
        """Ask for the whole time, with a pause after each round."""
        clients = [
            threading.Thread(target=self._ask, args=(seed,), name=f"client {seed}", daemon=True)
            for seed in range(self._given.clients)
        ]
        self._go.set()
        for thread in clients:
            thread.start()
        for number in range(1, self._round_count + 1):
            self.rounds.append([])
            self._watch(60 * self._given.minutes / self._round_count, models, aside)
            self._go.clear()
            self._pausing.wait(_LONGEST_ANSWER_SECONDS)  # all clients have closed their connections
            self.quiet.append(
                read_quiet(self._service.url, self._service.process.pid, self._elapsed, _PATIENCE_SECONDS)
            )
            if number == self._round_count:
                self._done.set()
            self._go.set()
        for thread in clients:
            thread.join()
        self._rpc.close()

    @property
    def _elapsed(self) -> float:
        return time.monotonic() - self._began

    def _watch(self, seconds: float, models: Path, aside: Path) -> None:
        """Read memory for so long, and let versions come and go."""
        ends_at = self._elapsed + seconds
        swap_at = self._elapsed + min(_SWAP_SECONDS, seconds / 2)
        while self._elapsed < ends_at:
            time.sleep(_READ_SECONDS)
            self.rounds[-1].append(read_processes(self._service.process.pid, self._elapsed))
            if self._elapsed > swap_at:
                self._swap(models / SWAPPED, aside)
                swap_at = self._elapsed + _SWAP_SECONDS

    def _swap(self, model: Path, aside: Path) -> None:
        """Let the second version come, then a broken one, then both go; the champion moves meanwhile."""
        step = self.swaps % 4
        self.swaps += 1
        if step == 0:
            (aside / "2").rename(model / "2")
        elif step == 1:
            (aside / "3").rename(model / "3")
        elif step == 2:
            change_alias(model, "champion", 1 if self.swaps % 8 < 4 else 2)
        else:
            for number in ("2", "3"):
                (model / number).rename(aside / number)

    def _ask(self, seed: int) -> None:
        client = Client(self._service.url, self._rpc, seed, self.findings)
        pause = self._given.clients / self._given.rate
        while not self._done.is_set():
            started = time.monotonic()
            client.random.choice(self._questions).put(client)
            time.sleep(max(0.0, client.random.uniform(0, 2) * pause - (time.monotonic() - started)))
            if not self._go.is_set():
                client.close()
                self._pausing.wait(_LONGEST_ANSWER_SECONDS)
                self._go.wait()

    def result(self) -> dict[str, Any]:
        """All readings, and the faults among them."""
        slope = slope_of(self.rounds[self._warm_up :])
        first, wrong = self.quiet[0], list(self.findings.wrong)
        if self._given.minutes >= _FEWEST_MINUTES_OF_A_SLOPE and slope.exceeds:
            wrong.append(f"memory grows by {slope.percent:.2f} % in ten minutes")
        for quiet in self.quiet:
            if quiet.waiting_rows or quiet.inflight_requests or quiet.inflight_bytes:
                wrong.append(f"something is left while nothing is asked: {quiet}")
            if quiet.file_descriptors > first.file_descriptors + _MOST_DESCRIPTORS_MORE:
                wrong.append(f"{quiet.file_descriptors} file descriptors, {first.file_descriptors} at first")
        restarts = sum("ended by" in line for line in self._service.lines)
        log = "".join(self._service.lines)
        traces = re.findall(r"^Traceback .*\n(?:\s.*\n)*(.*)$", log, re.MULTILINE)
        traces = [trace for trace in traces if "InvalidVersion" not in trace]  # of the broken version
        if restarts or traces:
            wrong.append(f"{restarts} replicas ended, {len(traces)} traces in the log: {set(traces)}")
        statuses: dict[str, int] = {}
        for (_, status), count in self.findings.statuses.items():
            statuses[status] = statuses.get(status, 0) + count
        return {
            "minutes": self._given.minutes,
            "processes": self._given.processes,
            "requests": sum(statuses.values()),
            "kinds_of_requests": len(self._questions),
            "statuses": dict(sorted(statuses.items())),
            "swaps": self.swaps,
            "warm_up_seconds": self.rounds[self._warm_up][0].seconds,
            "slope_percent": slope.percent,
            "slope_error": slope.error,
            "wrong_answers": self.findings.wrong_count,
            "wrong": wrong,
            "asked": {
                f"{name}: {status}": count for (name, status), count in sorted(self.findings.statuses.items())
            },
            "quiet": [quiet.document() for quiet in self.quiet],
            "readings": [asdict(reading) for readings in self.rounds for reading in readings],
        }


def publish(models: Path, aside: Path) -> None:
    """Publish the models that are asked, and make the versions that will come."""
    for name in (PICTURE, GAN, TABLE):
        (models / name).symlink_to(REPOSITORY / "models" / name)
    publish_toy(models, SWAPPED)
    aside.mkdir()
    second = publish_toy(models, SWAPPED, mixture=True)
    shutil.copytree(second, aside / "3")
    change_manifest(aside / "3", lambda manifest: manifest.update(version=3))
    flip_a_byte(aside / "3")
    second.rename(aside / "2")


def main(arguments: Sequence[str] | None = None) -> int:
    """Soak the service and write what was read; 0, or 1 if anything was wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=15.0, help="duration of the load, from 0.5 on")
    parser.add_argument("--clients", type=positive, default=16, help="clients at once")
    parser.add_argument("--rate", type=float, default=60.0, help="requests a second that they aim at")
    parser.add_argument("--processes", type=positive, default=2, help="processes of the service")
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument("--picture", type=Path, help="file for a PNG of them")
    given = parser.parse_args(arguments)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="soak-")))
        models, aside = folder / "models", folder / "aside"
        models.mkdir()
        publish(models, aside)
        port = free_port()
        options = (
            *("--poll-seconds", "0.5", "--newest-versions", "1", "--cache", str(folder / "cache")),
            *("--idle-seconds", str(_IDLE_SECONDS), "--keep-alive-seconds", "5", "--grpc-port", str(port)),
        )
        service = stack.enter_context(running_service(models, *options, processes=given.processes))
        soak = Soak(service, port, given)
        soak.run(models, aside)
    result = soak.result()
    if given.json is not None:
        given.json.parent.mkdir(parents=True, exist_ok=True)
        given.json.write_text(json.dumps(result, indent=1))
    if given.picture is not None:
        draw(result, given.picture)
    shown = {name: value for name, value in result.items() if name not in ("readings", "quiet", "asked")}
    sys.stdout.write(json.dumps(shown, indent=1) + "\n")
    return 1 if result["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
