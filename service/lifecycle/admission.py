"""Admission: the checks of a version before it may answer.

Its files are verified; then it may be tried in another process, which it can crash or exhaust; then it is
loaded here. `python -m service.lifecycle.admission` is that other process.
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
from service.format.versions import read_manifest, verify_files
from service.lifecycle.source import Fingerprint, fingerprint
from service.observe.metrics import Metrics
from service.runtime.loader import load
from service.runtime.model import LoadedModel
from service.runtime.session import Provider, choose_provider
from service.settings import Settings

_OUT_OF_MEMORY: Final = ("memoryerror", "bad_alloc", "bad allocation", "allocate memory", "out of memory")
"""Signs of too little memory in an error; ONNX Runtime has no exception class for that."""


class Admission:
    """Makes versions ready to serve, one at a time, on a provider that is chosen once."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._settings = settings
        self._metrics = metrics
        self._threads = ThreadPoolExecutor(settings.granted_lanes, thread_name_prefix="lane")
        self._provider: Provider | None = None

    def choose_provider(self, graph: Path | None) -> None:
        """Choose the provider by trying a graph; without one, `auto` waits for the first version.

        Raises:
            ProviderUnavailable: `--device cuda`, and CUDA cannot be used.
        """
        if graph is not None or self._settings.device != "auto":
            self._provider = choose_provider(self._settings.device, graph)
            self._metrics.provider_active.labels(self._provider).set(1)

    async def admit(self, folder: Path, seen: Fingerprint, *, hot: bool) -> LoadedModel:
        """Return the version of a folder loaded, warmed up and self-tested; its batchers are not started.

        If the files no longer have the fingerprint `seen`, it is refused. `hot` is True if other versions are
        served, which it must not harm.

        Raises:
            InvalidVersion: it is not admitted; the message names no folder of this machine.
        """
        try:
            provider = await asyncio.to_thread(self._verify, folder)
            if self._settings.trial == "always" or (hot and self._settings.trial == "hot"):
                await try_in_subprocess(folder, provider, self._settings)
            inputs = folder, provider, self._settings, self._metrics, self._threads
            loaded = await asyncio.to_thread(load, *inputs)
            if await asyncio.to_thread(fingerprint, folder) != seen:
                raise InvalidVersion("its files were changed while it was loaded")  # noqa: TRY301
        except Exception as error:
            reason = error.detail if isinstance(error, ServiceError) else type(error).__name__
            raise InvalidVersion(
                reason.replace(f"{folder}/", "").replace(f"{folder}", folder.name)
            ) from error
        return loaded

    def _verify(self, folder: Path) -> Provider:
        """Find damaged files before any process is started; choose the provider if that is still open."""
        manifest = read_manifest(folder)
        verify_files(folder, manifest)
        if self._provider is None:
            self.choose_provider(folder / next(iter(manifest.graphs.values())).file)
        assert self._provider is not None
        return self._provider

    def close(self) -> None:
        """End the threads, once no version uses them."""
        self._threads.shutdown(wait=False, cancel_futures=True)


async def try_in_subprocess(folder: Path, provider: Provider, settings: Settings) -> None:
    """Load, warm up and self-test a version in another process.

    Raises:
        InvalidVersion: it fails, or takes more than the time or memory of `settings`; says why.
    """
    command = (sys.executable, "-m", "service.lifecycle.admission", str(folder), provider)
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C in a terminal is for the service
    )
    try:
        flaw, _ = await process.communicate(settings.model_dump_json().encode())
    finally:
        if process.returncode is None:
            process.kill()
    code = process.returncode or 0
    if code == 0:
        return
    if flaw:
        raise InvalidVersion(json.loads(flaw)["flaw"])
    if code == -signal.SIGALRM:
        raise InvalidVersion(
            f"its trial took longer than the {settings.trial_seconds:g} s of --trial-seconds"
        )
    how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"
    raise InvalidVersion(f"the process that tried to load it {how}, and the service would have, too")


def main() -> None:
    """Try the version named on the command line, with settings from stdin; write the flaw to stdout."""
    settings = Settings.model_validate_json(sys.stdin.buffer.read())
    signal.setitimer(signal.ITIMER_REAL, settings.trial_seconds)  # its signal ends the process
    os.nice(10)  # so that requests are answered first
    provider: Provider = "cuda" if sys.argv[2] == "cuda" else "cpu"
    if provider == "cpu":  # CUDA reserves far more than it uses, so a limit would refuse every version
        resource.setrlimit(resource.RLIMIT_DATA, (settings.trial_memory_bytes,) * 2)
    try:
        with ThreadPoolExecutor(1) as threads:
            load(Path(sys.argv[1]), provider, settings, Metrics(), threads)
    except Exception as error:
        sys.stdout.write(json.dumps({"flaw": _flaw(error, settings)}))
        sys.stdout.flush()
        os._exit(1)  # without clean-up, which a broken graph may hang or crash
    os._exit(0)


def _flaw(error: Exception, settings: Settings) -> str:
    causes: list[BaseException] = [error]
    while causes[-1].__cause__ is not None:
        causes.append(causes[-1].__cause__)
    text = " ".join(f"{type(cause).__name__}: {cause}" for cause in causes).lower()
    if any(sign in text for sign in _OUT_OF_MEMORY):
        megabytes = settings.trial_memory_bytes / 1e6
        return f"its trial needed more memory than the {megabytes:,.0f} MB of --trial-memory-bytes"
    return error.detail if isinstance(error, ServiceError) else f"{type(error).__name__} while it was loaded"


if __name__ == "__main__":
    main()
