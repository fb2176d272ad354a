"""Loads and runs a version once in a process of its own, which may die of it while the service lives on.

`attempt` is the service's side, `main` that process. It does there what the service will do, by the same
code, with bounds on memory and time that the system itself keeps.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from service.errors import InvalidVersion, ServiceError
from service.loading import load
from service.metrics import Metrics
from service.provider import Provider
from service.settings import Settings

_GREATER_NICENESS: Final = 10
"""How far it steps back behind the requests that are being answered."""
_OUT_OF_MEMORY: Final = ("bad_alloc", "bad allocation", "allocate memory", "out of memory")
"""What ONNX Runtime says when the system refuses it memory; it has no class of error for that."""


async def attempt(folder: Path, provider: Provider, settings: Settings) -> None:
    """Returns once the version has been loaded, warmed and self-tested in another process.

    Raises:
        InvalidVersion: it cannot be, or not within the time and memory of `settings`; says why.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "service.trial",
        str(folder),
        provider,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C in a terminal is for the service
    )
    try:
        told, _ = await process.communicate(settings.model_dump_json().encode())
    finally:
        if process.returncode is None:
            process.kill()
    code = process.returncode or 0
    if code == 0:
        return
    if told:
        raise InvalidVersion(json.loads(told)["flaw"])
    if code == -signal.SIGALRM:
        raise InvalidVersion(
            f"its trial took longer than the {settings.trial_seconds:g} s of --trial-seconds"
        )
    how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"
    raise InvalidVersion(f"the process that tried to load it {how}, and the service would have, too")


def main() -> None:
    """Tries the version named on the command line, with settings from stdin; tells the flaw on stdout."""
    settings = Settings.model_validate_json(sys.stdin.buffer.read())
    signal.setitimer(signal.ITIMER_REAL, settings.trial_seconds)  # whose signal ends the process
    os.nice(_GREATER_NICENESS)
    folder, provider = Path(sys.argv[1]), _provider(sys.argv[2])
    if provider == "cpu":  # CUDA reserves what it never uses, and a bound on that would refuse all
        resource.setrlimit(resource.RLIMIT_DATA, (settings.trial_memory_bytes,) * 2)
    try:
        with ThreadPoolExecutor(1) as threads:
            load(folder, provider, settings, Metrics(), threads)
    except Exception as error:
        sys.stdout.write(json.dumps({"flaw": _flaw(error, settings)}))
        sys.stdout.flush()
        os._exit(1)  # what a broken graph left behind is not asked to end well
    os._exit(0)


def _provider(name: str) -> Provider:
    return "cuda" if name == "cuda" else "cpu"


def _flaw(error: Exception, settings: Settings) -> str:
    causes: list[BaseException] = [error]
    while causes[-1].__cause__ is not None:
        causes.append(causes[-1].__cause__)
    text = " ".join(str(cause) for cause in causes).lower()
    if any(isinstance(cause, MemoryError) for cause in causes) or any(
        sign in text for sign in _OUT_OF_MEMORY
    ):
        megabytes = settings.trial_memory_bytes / 1e6
        return f"its trial needed more memory than the {megabytes:,.0f} MB of --trial-memory-bytes"
    return error.detail if isinstance(error, ServiceError) else f"{type(error).__name__} while it was loaded"


if __name__ == "__main__":
    main()
