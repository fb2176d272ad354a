"""`make bench`, or `python -m tests.performance.bench`: the speed of the service, beside other servers.

In each of several interleaved rounds, every workload is run against the naive server, the floor, the service
and any other server named by `--against`. ONNX Runtime alone is measured just before and after each load, and
beside bulk work, which has no server. All answers are checked before, and some of them during, every load.
Linux only.
"""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Final

from .arguments import address, positive, seconds
from .curve import measure_curve
from .failure import BenchFailed
from .report import markdown
from .rounds import Options, measure_all
from .workloads import WORKLOADS

_DEFAULTS: Final = {"rounds": 5, "seconds": 3.0, "processes": 2, "stream_seconds": 900.0, "divisor": 1}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures and writes the report; 0, or 1 if anything was wrong, 130 when interrupted."""
    parser = _parser()
    given = parser.parse_args(arguments)
    names = [other.name for other in given.against]
    if len(set(names)) < len(names):
        parser.error(f"two servers are called alike, of {', '.join(names)}; name them, by --against NAME=URL")
    previous = signal.signal(signal.SIGTERM, _stop)
    try:
        if given.curve is not None:
            _measure_curve(given)
        else:
            _measure(given)
    except BenchFailed as failure:
        notes = "".join(f"\n\n{note}" for note in getattr(failure, "__notes__", ()))
        sys.stderr.write(f"bench: {failure}{notes}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("bench: interrupted\n")
        return 130
    finally:
        signal.signal(signal.SIGTERM, previous)
    return 0


def _measure(given: argparse.Namespace) -> None:
    results = measure_all(options_of(given))
    if given.json is not None:
        _write(given.json, results.written())
    sys.stdout.write(markdown(results))


def _measure_curve(given: argparse.Namespace) -> None:
    from .curve_picture import draw  # matplotlib takes half a second to import

    curve = measure_curve(given.rounds, given.seconds, given.processes)
    _write(given.curve.with_suffix(".json"), curve.written())
    draw(curve, given.curve)
    sys.stdout.write(f"{given.curve}\n")


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def options_of(given: argparse.Namespace) -> Options:
    """Return the options of the command line; their text names those that differ from the defaults."""
    named = given.workload or [workload.name for workload in WORKLOADS]
    text = [
        f" --{name.replace('_', '-')} {getattr(given, name):g}"
        for name, default in _DEFAULTS.items()
        if getattr(given, name) != default
    ]
    text += [f" --against {shlex.quote(f'{address.name}={address.url}')}" for address in given.against]
    return Options(
        tuple(workload for workload in WORKLOADS if workload.name in named),
        given.rounds,
        given.seconds,
        given.stream_seconds,
        given.processes,
        given.divisor,
        tuple(given.against),
        "".join(text),
    )


def _parser() -> argparse.ArgumentParser:
    names = [workload.name for workload in WORKLOADS]
    parser = argparse.ArgumentParser(
        prog="bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add(
        "--workload",
        choices=names,
        action="append",
        metavar="NAME",
        help=f"only this one of {', '.join(names)}; may be repeated",
    )
    add("--rounds", type=positive, help="interleaved rounds (5)")
    add("--seconds", type=seconds, help="of each load (3)")
    add("--processes", type=positive, help="of the service; memory and start are of one (2)")
    add("--stream-seconds", type=seconds, help="the longest that the long stream is read (900)")
    add("--divisor", type=positive, help="divides the rows of bulk work (1)")
    add(
        "--against",
        type=address,
        action="append",
        default=[],
        metavar="[NAME=]URL",
        help="a running server that speaks our /v1 or the Open Inference Protocol's /v2; may be repeated",
    )
    add(
        "--json",
        type=Path,
        metavar="FILE",
        help="where to write all rounds; tests.performance.report renders it again",
    )
    add(
        "--curve",
        type=Path,
        metavar="FILE.png",
        help="measure the scaling curve instead, draw it there, and write FILE.json",
    )
    parser.set_defaults(**_DEFAULTS)
    return parser


def _stop(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
