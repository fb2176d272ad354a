"""`make profile`: a profile of the service under single samples, as a flame graph and for speedscope.

py-spy records the service twice, once for each file. Where it may not attach to a running process, the
service is started under it instead; then the start is in the picture, too. Linux only.
"""

from __future__ import annotations

import argparse
import math
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from tests.ports import free_port

from .arguments import positive, seconds
from .dialects import OurDialect
from .failure import BenchFailed
from .load import apply_load
from .rounds import open_bench
from .servers import Target, running, service_command, service_server
from .state import Bench
from .workloads import SERVICE, WORKLOADS, Workload

FILES: Final = {"flamegraph": "profile.svg", "speedscope": "profile.speedscope.json"}
"""The files that are written, by py-spy's name of the format."""

_SAMPLES_A_SECOND: Final = 200
_MARGIN_SECONDS: Final = 1
"""The seconds that a load lasts beyond the recording."""
_WRITING_SECONDS: Final = 60


class MayNotAttach(Exception):
    """This machine does not let one process watch another that it has not started."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Records, and prints what was written; 0, or 1 if anything was wrong, 130 when interrupted."""
    given = _parser().parse_args(arguments)
    workload = next(workload for workload in WORKLOADS if workload.name == given.workload)
    given.folder.mkdir(parents=True, exist_ok=True)
    try:
        with open_bench(given.seconds, given.processes, stream_seconds=0) as bench:
            for form, name in FILES.items():
                record(bench, workload, form, given.folder / name, starts_it=given.start)
                sys.stdout.write(f"{given.folder / name}\n")
    except BenchFailed as failure:
        sys.stderr.write(f"profile: {failure}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("profile: interrupted\n")
        return 130
    return 0


def record(bench: Bench, workload: Workload, form: str, path: Path, *, starts_it: bool = False) -> None:
    """Writes one profile of the service under a load.

    Args:
        bench: Its `seconds` are recorded.
        workload: The load.
        form: A format of py-spy's.
        path: The file.
        starts_it: Whether to start the service under py-spy even where it may attach.

    Raises:
        BenchFailed: py-spy is missing or failed, or the load failed.
    """
    try:
        if not starts_it:
            _record_running(bench, workload, form, path)
    except MayNotAttach:
        sys.stderr.write("py-spy may not attach here; starting the service under it\n")
        starts_it = True
    if starts_it:
        _record_from_the_start(bench, workload, form, path)


def _record_running(bench: Bench, workload: Workload, form: str, path: Path) -> None:
    models = {workload.model: bench.models[workload.model]}
    folder = bench.serving(models)
    with (
        service_server(folder, models, bench.logs, bench.processes) as target,
        ThreadPoolExecutor(1) as pool,
    ):
        load = pool.submit(_load, bench, target, workload, math.ceil(bench.seconds) + _MARGIN_SECONDS)
        duration = ("--duration", str(math.ceil(bench.seconds)))
        command = [*_spy(form, path), *duration, "--pid", str(target.process_id)]
        told = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=bench.seconds + _WRITING_SECONDS
        )
        load.result()
    if "ermission denied" in told.stderr or "not permitted" in told.stderr:
        raise MayNotAttach
    _expect_written(path, told.returncode, told.stderr)


def _record_from_the_start(bench: Bench, workload: Workload, form: str, path: Path) -> None:
    models = {workload.model: bench.models[workload.model]}
    folder, port = bench.serving(models), free_port()
    command = [*_spy(form, path), "--", *service_command(folder, port, bench.processes)]
    # py-spy writes at SIGINT, and ends the service
    with running(SERVICE, command, port, "/readyz", bench.logs, signal.SIGINT) as (process, _):
        target = Target(SERVICE, f"http://127.0.0.1:{port}", OurDialect(models, models.keys()))
        _load(bench, target, workload, bench.seconds)
    _expect_written(path, process.returncode, "")


def _load(bench: Bench, target: Target, workload: Workload, seconds: float) -> None:
    request = target.dialect.request(workload)
    apply_load(target.url, request, workload.connections, seconds, bench.fresh_seeds())


def _spy(form: str, path: Path) -> list[str]:
    search = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)))
    found = shutil.which("py-spy", path=search)
    if found is None:
        raise BenchFailed("py-spy is not installed; it is in the extra `dev`")
    return [
        *(found, "record", "--subprocesses", "--format", form, "--output", str(path)),
        *("--rate", str(_SAMPLES_A_SECOND)),
    ]


def _expect_written(path: Path, status: int, text: str) -> None:
    if status != 0 or not path.exists():
        raise BenchFailed(f"py-spy exited {status} and wrote no {path}: {text}")


def _parser() -> argparse.ArgumentParser:
    names = [workload.name for workload in WORKLOADS if workload.connections > 1]
    parser = argparse.ArgumentParser(
        prog="profile", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--workload", choices=names, default="single-32", help="the load (single-32)")
    add("--seconds", type=seconds, default=10.0, help="how long is recorded (10)")
    add("--processes", type=positive, default=2, help="of the service (2)")
    add("--folder", type=Path, default=Path("build"), help="where the files go (build)")
    add("--start", action="store_true", help="start the service under py-spy even where it may attach")
    return parser


if __name__ == "__main__":
    sys.exit(main())
