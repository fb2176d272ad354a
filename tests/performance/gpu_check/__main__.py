"""`make gpu-check`: everything that only a machine with a GPU can tell, by one command, in eight minutes.

Each part runs in a process of its own and may take so long and no longer, besides what the parts before it
have left of theirs; whatever becomes of it, the others run, and its rows so far are kept. After every part
build/gpu-check.json and build/gpu-check.md are written.
Packages that the machine lacks may lie as wheels in the folder `wheels`. Linux on x86-64 only.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from .parts import PARTS, TOTAL_SECONDS
from .preparation import REPOSITORY, Unprepared, environment_with, how_to_fetch, missing, without_cuda
from .report import NOT_A_GPU, Found
from .running import Outcome, run_part

_DEVICE_FILES: Final = (Path("/dev/nvidiactl"), Path("/dev/dxg"))
_LEAST_SECONDS: Final = 1.0
_SECONDS: Final = 2.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Checks and writes; 0, 1 if a part is not done, 2 if the check cannot begin, 130 when interrupted."""
    given = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    started_at = time.monotonic()
    try:
        folder, environment, lacking = _prepared(given)
    except Unprepared as reason:
        sys.stderr.write(f"gpu-check: {reason}\n")
        return 2
    outcomes: list[Outcome] = []
    try:
        for outcome in _outcomes(given, started_at + TOTAL_SECONDS, folder, environment):
            outcomes.append(outcome)
            _found(given, lacking, outcomes).write(given.out)
            sys.stderr.write(f"gpu-check: {outcome.name}: {outcome.state}, {outcome.seconds:g} s\n")
    except KeyboardInterrupt:
        sys.stderr.write(f"gpu-check: interrupted; {len(outcomes)} parts are in {given.out}.md\n")
        return 130
    sys.stdout.write(f"{given.out.with_suffix('.json')}\n{given.out.with_suffix('.md')}\n")
    if given.device == "cpu":
        sys.stdout.write(f"{NOT_A_GPU.replace('*', '')}\n")
    return 0 if all(outcome.state == "done" for outcome in outcomes) else 1


def _outcomes(
    given: argparse.Namespace, end_at: float, folder: Path, environment: Mapping[str, str]
) -> Iterator[Outcome]:
    """Runs the parts; each may also take what those before it have left of their own times."""
    options = ["--device", given.device, "--models", str(given.models.resolve())]
    options += ["--seconds", str(given.seconds)]
    budgets, spared = dict(given.budget), 0.0
    for part in PARTS:
        if given.part and part.name not in given.part:
            continue
        left = end_at - time.monotonic()
        seconds = min(left, budgets.get(part.name, part.seconds + spared))
        if left < _LEAST_SECONDS:
            reason = f"the parts before it took all of the {TOTAL_SECONDS:g} s"
            yield Outcome(part.name, part.what, "not run", 0.0, reason=reason)
        else:
            outcome = run_part(part, options, seconds, folder, environment)
            spared = max(0.0, spared + part.seconds - outcome.seconds)
            yield outcome


def _prepared(given: argparse.Namespace) -> tuple[Path, Mapping[str, str], list[str]]:
    """Return an empty folder for the parts, their environment, and the missing packages, which it prints."""
    if given.device == "cuda" and not any(path.exists() for path in _DEVICE_FILES):
        raise Unprepared(
            "there is no NVIDIA device on this machine (/dev/nvidiactl); DEVICE=cpu runs the same on the CPU"
        )
    if not given.models.is_dir():
        raise Unprepared(f"{given.models} is no folder of models; name one by --models")
    site = given.out.parent.resolve() / f"{given.out.name}-packages" / "site"
    environment = environment_with(given.wheels, site)
    lacking = missing(given.device, site)
    if given.device == "cuda":
        for sentence in without_cuda(site):
            sys.stderr.write(f"gpu-check: {sentence}\n")
    if lacking:
        sys.stderr.write(
            f"gpu-check: {sys.executable} lacks {', '.join(lacking)}; parts that need them will fail. Where "
            f"there is internet, in this folder, this puts them into {given.wheels}, which git ignores and "
            f"the next check installs from:\n    {how_to_fetch(lacking, given.wheels)}\n"
        )
    folder = given.out.parent / f"{given.out.name}-parts"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder.resolve(), environment, lacking


def _found(given: argparse.Namespace, lacking: Sequence[str], outcomes: Sequence[Outcome]) -> Found:
    options = f" --seconds {given.seconds:g}" if given.seconds != _SECONDS else ""
    at = datetime.now(UTC).isoformat(timespec="seconds")
    return Found(given.device, options, at, tuple(lacking), tuple(outcomes))


def _budget(text: str) -> tuple[str, float]:
    name, _, seconds = text.partition("=")
    if name not in [part.name for part in PARTS]:
        raise argparse.ArgumentTypeError(f"{name} is no part")
    return name, float(seconds)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="gpu-check", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = ", ".join(part.name for part in PARTS)
    add = parser.add_argument
    add("--device", choices=["cuda", "cpu"], default="cuda", help="cpu shows that the check works (cuda)")
    add("--part", action="append", choices=[part.name for part in PARTS], metavar="NAME", help=f"of {names}")
    add("--seconds", type=float, default=_SECONDS, help=f"of each load and loop ({_SECONDS:g})")
    add("--budget", type=_budget, action="append", default=[], metavar="PART=SECONDS", help="its longest")
    add("--models", type=Path, default=REPOSITORY / "models", help="a folder of published models (models)")
    add("--wheels", type=Path, default=REPOSITORY / "wheels", help="a folder of wheels to use (wheels)")
    add(
        "--out",
        type=Path,
        default=Path("build/gpu-check"),
        metavar="STEM",
        help="of the files (build/gpu-check)",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
