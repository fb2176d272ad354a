"""What a version goes through before it may answer: tried elsewhere, if need be, then loaded here."""

from __future__ import annotations

import asyncio
import json
import logging
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
        "service.lifecycle.admission",
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


log = logging.getLogger(__name__)


class Refused(Exception):
    """A version stays out; the message says why, without a folder of this machine."""


class Admission:
    """Makes versions ready to serve, one at a time, on the provider that was chosen once."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._settings = settings
        self._metrics = metrics
        self._threads = ThreadPoolExecutor(settings.granted_lanes, thread_name_prefix="lane")
        self._provider: Provider | None = None

    def settle_provider(self, graph: Path | None) -> None:
        """Chooses the provider by a graph; with none, `auto` waits for the first version.

        Raises:
            ProviderUnavailable: `--device cuda`, and CUDA cannot be used.
        """
        if graph is not None or self._settings.device != "auto":
            self._provider = choose_provider(self._settings.device, graph)
            self._metrics.provider_active.labels(self._provider).set(1)

    async def admit(self, folder: Path, seen: Fingerprint, *, hot: bool) -> LoadedModel:
        """The version of a folder, loaded, warmed and self-tested; its batchers are not started.

        Args:
            folder: The version's.
            seen: Its files, as they are to be; if they change meanwhile, it is refused.
            hot: Whether others are served, whom it must not harm.

        Raises:
            Refused: it stays out.
        """
        try:
            return await self._admitted(folder, seen, hot=hot)
        except Exception as error:
            reason = error.detail if isinstance(error, ServiceError) else type(error).__name__
            raise Refused(reason.replace(f"{folder}/", "").replace(f"{folder}", folder.name)) from error

    async def _admitted(self, folder: Path, seen: Fingerprint, *, hot: bool) -> LoadedModel:
        provider = await asyncio.to_thread(self._verified, folder)
        if self._settings.trial == "always" or (hot and self._settings.trial == "hot"):
            await attempt(folder, provider, self._settings)
        loaded = await asyncio.to_thread(load, folder, provider, self._settings, self._metrics, self._threads)
        if await asyncio.to_thread(fingerprint, folder) != seen:
            raise InvalidVersion("its files were changed while it was loaded")
        return loaded

    def _verified(self, folder: Path) -> Provider:
        """Tells what is damaged at once, without a process for it; chooses the provider, if that is open."""
        manifest = read_manifest(folder)
        verify_files(folder, manifest)
        if self._provider is None:
            self.settle_provider(folder / next(iter(manifest.graphs.values())).file)
        assert self._provider is not None
        return self._provider

    def close(self) -> None:
        """Ends the threads, once no version uses them."""
        self._threads.shutdown(wait=False, cancel_futures=True)
