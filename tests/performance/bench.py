"""`make bench`, or `python -m tests.performance.bench`: how fast the service is, and beside what.

In each of several interleaved rounds, every workload is run against the naive server and the service, and
ONNX Runtime alone is measured just before and after each run. All answers are checked first. Linux only.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Final

from service.settings import granted_cores

from .checks import check_naive, check_service
from .decoder import publish_decoder
from .failure import BenchFailed
from .load import WORKLOADS, Workload, apply_load, wrk_is_there
from .raw import RawLoop
from .report import Run, document, machine, markdown
from .servers import Target, naive_server, service_server

BESIDE_SECONDS: Final = 0.5
"""How long ONNX Runtime alone is measured, before and again after each run."""

WARM_UP_SECONDS: Final = 1
SEEDS_A_RUN: Final = 10_000_000
"""Each run draws from a range of seeds of its own, so no answer is ever asked for twice."""


@dataclass(frozen=True, slots=True)
class Options:
    """What to measure, how often and for how many seconds, and where to write it."""

    workloads: tuple[Workload, ...]
    rounds: int
    seconds: int
    json_file: Path | None


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures and writes the report; 0, or 1 if anything was wrong, 130 when interrupted."""
    options = _options(arguments)
    previous = signal.signal(signal.SIGTERM, _stop)
    try:
        where, runs = machine(), measure(options)
    except BenchFailed as failure:
        notes = "".join(f"\n\n{note}" for note in getattr(failure, "__notes__", ()))
        sys.stderr.write(f"bench: {failure}{notes}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("bench: interrupted\n")
        return 130
    finally:
        signal.signal(signal.SIGTERM, previous)
    if options.json_file is not None:
        text = json.dumps(document(where, options.workloads, runs), indent=2)
        options.json_file.write_text(text + "\n", encoding="utf-8")
    sys.stdout.write(markdown(where, options.workloads, runs))
    return 0


def measure(options: Options) -> list[Run]:
    """Publishes the decoder, starts both servers, checks them, and times all rounds.

    Raises:
        BenchFailed: wrk is missing, or a server failed or answered wrongly.
    """
    if not wrk_is_there():
        raise BenchFailed("wrk is not installed; on Debian: apt-get install wrk")
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pushforward-bench-")))
        graph = publish_decoder(folder / "models") / "decode.onnx"
        raw = RawLoop(graph, granted_cores())
        naive = stack.enter_context(naive_server(graph, folder))
        service = stack.enter_context(service_server(folder / "models", folder))
        check_naive(naive, graph)
        check_service(service, graph)
        return _rounds(options, (naive, service), raw)


def _rounds(options: Options, targets: tuple[Target, ...], raw: RawLoop) -> list[Run]:
    for workload in options.workloads:
        for target in targets:
            apply_load(workload, target.sample_url, WARM_UP_SECONDS, 0)
    runs: list[Run] = []
    for number in range(1, options.rounds + 1):
        for workload in options.workloads:
            for target in targets[:: 1 if number % 2 else -1]:  # no target always goes first
                first_seed = (len(runs) + 1) * SEEDS_A_RUN
                runs.append(_run(number, workload, target, raw, options.seconds, first_seed))
                sys.stderr.write(f"round {number} of {options.rounds}: {workload.name}, {target.name}\n")
    return runs


def _run(number: int, workload: Workload, target: Target, raw: RawLoop, seconds: int, first_seed: int) -> Run:
    before = raw.samples_per_second(BESIDE_SECONDS)
    cpu_before = target.cpu_seconds()
    load = apply_load(workload, target.sample_url, seconds, first_seed)
    cpu_seconds = target.cpu_seconds() - cpu_before
    after = raw.samples_per_second(BESIDE_SECONDS)
    return Run(
        round=number,
        workload=workload.name,
        target=target.name,
        requests_per_second=load.requests / load.seconds,
        samples_per_second=load.requests * workload.count / load.seconds,
        p50_milliseconds=load.p50_milliseconds,
        p99_milliseconds=load.p99_milliseconds,
        server_cpu_microseconds_per_request=cpu_seconds / load.requests * 1e6,
        server_cores=cpu_seconds / load.seconds,
        wrk_cores=load.wrk_cpu_seconds / load.seconds,
        raw_samples_per_second=(before + after) / 2,
    )


def _options(arguments: Sequence[str] | None) -> Options:
    names = [workload.name for workload in WORKLOADS]
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--rounds", type=_positive, default=5, help="interleaved rounds (5)")
    parser.add_argument("--seconds", type=_positive, default=3, help="seconds of each run (3)")
    parser.add_argument("--workload", choices=names, action="append", help="only this one; may be repeated")
    parser.add_argument("--connections", type=_positive, help="instead of each workload's own")
    parser.add_argument("--json", type=Path, dest="json_file", help="file to write everything to")
    given = parser.parse_args(arguments)
    chosen = [workload for workload in WORKLOADS if workload.name in (given.workload or names)]
    if given.connections is not None:
        chosen = [replace(workload, connections=given.connections) for workload in chosen]
    return Options(tuple(chosen), given.rounds, given.seconds, given.json_file)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return number


def _stop(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
