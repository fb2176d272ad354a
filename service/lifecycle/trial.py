"""Trials: a version is loaded in another process first, which it can crash or exhaust.

`python -m service.lifecycle.trial PROVIDER FOLDER...` is that other process.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Sequence
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path
from typing import BinaryIO, Final

import onnxruntime as ort

from service.errors import InvalidVersion, NotLoadedNow, ServiceError
from service.format.versions import MANIFEST, MAX_MANIFEST_BYTES, read_plain_file
from service.runtime.engine import lacks_memory
from service.runtime.lanes import Lanes
from service.runtime.loader import load
from service.runtime.session import Provider
from service.settings import Settings

_LOCK_SECONDS: Final = 0.05
"""Interval between looks at a lock that another process holds."""
_QUIET_SECONDS: Final = 5.0
"""A wait for it that takes longer is told."""
_EXIT_FLAWED: Final = 1
_EXIT_FOR_NOW: Final = 3
"""The version could not be loaded for a reason that may pass."""
log = logging.getLogger(__name__)


class Trials:
    """Tries versions, and remembers those that passed by the hash of their manifests.

    They are remembered in a folder of `settings.cache`, for other processes and the next start. One process
    at a time tries versions; the others wait for their turn, but no longer than one trial may take. Where
    that folder cannot be written, each process remembers them for itself; if it is removed meanwhile, it is
    made anew.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._passed: set[str] = set()
        self._folder: Path | None = None
        with contextlib.suppress(RuntimeError):  # where no home folder is known
            self._folder = settings.cache.expanduser() / "trials"
        if (lock := self._lock_file()) is None:
            log.info("versions that passed a trial are not remembered in --cache, which cannot be written")
        else:
            lock.close()

    async def check(self, folders: Sequence[Path], provider: Provider) -> dict[Path, InvalidVersion]:
        """Try those of these versions that have not passed before; return why versions may not be loaded.

        With `--trial always`, all of them are tried. Those that pass are tried in one process, which is
        quicker.
        """
        flaws: dict[Path, InvalidVersion] = {}
        if not await asyncio.to_thread(self._unknown, folders, provider):
            return flaws
        async with self._turn():
            # another process may have tried them meanwhile
            keys = await asyncio.to_thread(self._unknown, folders, provider)
            while keys:
                passed, flaw = await try_in_subprocess([*keys], provider, self._settings)
                for folder in [*keys][:passed]:
                    self._remember(keys.pop(folder))
                if flaw is not None:
                    failed = next(iter(keys))
                    flaws[failed] = flaw
                    del keys[failed]
        return flaws

    def _unknown(self, folders: Sequence[Path], provider: Provider) -> dict[Path, str]:
        """Return the keys of the versions that are to be tried."""
        keys = {folder: _key(folder, provider) for folder in folders}
        if self._settings.trial == "always":
            return keys
        return {folder: key for folder, key in keys.items() if not self._has_passed(key)}

    def _has_passed(self, key: str) -> bool:
        """Return True if a version of this key has passed a trial before."""
        if not key:
            return False
        return key in self._passed or (self._folder is not None and os.path.exists(self._folder / key))

    def _remember(self, key: str) -> None:
        self._passed.add(key)
        if self._folder is not None:
            with contextlib.suppress(OSError):
                (self._folder / key).touch()

    @contextlib.asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """Wait until no other process tries a version, but not for one that stands still."""
        lock = self._lock_file()
        if lock is None:
            yield
            return
        with lock:
            await self._wait_for(lock)
            yield

    async def _wait_for(self, lock: BinaryIO) -> None:
        """Return with the lock, or without it after the time of one trial; say so if that takes long."""
        began_at, told = time.monotonic(), False
        while (waited := time.monotonic() - began_at) < self._settings.trial_seconds:
            try:
                flock(lock, LOCK_EX | LOCK_NB)
            except BlockingIOError:
                if waited > _QUIET_SECONDS and not told:
                    told = True
                    log.info("waiting for another process, which tries versions and has %s locked", lock.name)
                await asyncio.sleep(_LOCK_SECONDS)
            else:
                return
        log.warning(
            "another process has had %s locked for the %g s of --trial-seconds; versions are tried beside it",
            *(lock.name, self._settings.trial_seconds),
        )

    def _lock_file(self) -> BinaryIO | None:
        """Open the file whose lock is the turn of a process; None where there can be none."""
        if self._folder is None:
            return None
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            return (self._folder / "lock").open("ab")
        except OSError:
            return None


def _key(folder: Path, provider: Provider) -> str:
    """Return a name for a version as it is, and for what loads it; empty if its manifest cannot be read."""
    try:
        manifest = hashlib.sha256(read_plain_file(folder / MANIFEST, MAX_MANIFEST_BYTES)).hexdigest()
    except OSError:  # its trial says so
        return ""
    return hashlib.sha256(f"{manifest} {provider} {ort.__version__}".encode()).hexdigest()


async def try_in_subprocess(
    folders: Sequence[Path], provider: Provider, settings: Settings
) -> tuple[int, InvalidVersion | None]:
    """Load, warm up and self-test versions in another process, until one fails.

    That one is tried once more, alone, if a signal ended the process, or others had taken the memory.

    Returns:
        How many passed, and why the next one failed: by itself, or by more time or memory than `settings`
        allow; None if all passed.
    """
    passed = 0
    try:
        code, flaws = await _trial(folders, provider, settings)
        passed = flaws.count("")
        if passed == len(folders):
            return passed, None
        was_killed = code < 0 and code != -signal.SIGALRM  # perhaps for want of memory that others took
        if was_killed or (code == _EXIT_FOR_NOW and passed):
            code, flaws = await _trial([folders[passed]], provider, settings)
            if flaws == [""]:
                return passed + 1, None
    except OSError as error:
        return passed, NotLoadedNow(f"no process could be started to try it ({error.strerror})")
    if flaws and flaws[-1]:
        return passed, (NotLoadedNow if code == _EXIT_FOR_NOW else InvalidVersion)(flaws[-1])
    if code == -signal.SIGALRM:
        text = f"its trial took longer than the {settings.trial_seconds:g} s of --trial-seconds"
        return passed, NotLoadedNow(text)
    how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"
    return passed, (NotLoadedNow if code == -signal.SIGKILL else InvalidVersion)(
        f"the process that tried to load it {how}, and the service would have, too"
    )


async def _trial(folders: Sequence[Path], provider: Provider, settings: Settings) -> tuple[int, list[str]]:
    """Return how a trial ended, as `Popen.returncode` says, and the flaw of each version, empty for none.

    A trial ends with the first version that fails, of which it need not say why. Cancelled, it is killed.

    Raises:
        OSError: no process could be started.
    """
    process = _start_trial(folders, provider)
    plain = settings.model_dump_json(include=set(Settings.model_fields))  # a command may have more of its own
    ended = asyncio.to_thread(process.communicate, plain.encode())
    try:
        output, _ = await asyncio.shield(asyncio.ensure_future(ended))  # it also closes the pipes
    finally:
        process.kill()
    return process.returncode, [json.loads(line) for line in output.splitlines()]


def _start_trial(folders: Sequence[Path], provider: Provider) -> subprocess.Popen[bytes]:
    """Start a trial. `subprocess` calls vfork, which runs none of the handlers that gRPC has for a fork."""
    return subprocess.Popen(
        (sys.executable, "-m", "service.lifecycle.trial", provider, *map(str, folders)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C in a terminal is for the service
    )


def main() -> None:
    """Try the versions named on the command line, with settings from stdin, until one fails.

    Write a line for each to stdout: its flaw in JSON, or an empty string.
    """
    settings = Settings.model_validate_json(sys.stdin.buffer.read())
    os.nice(10)  # so that requests are answered first
    provider: Provider = "cuda" if sys.argv[1] == "cuda" else "cpu"
    limit = min(settings.trial_memory_bytes, free_memory_bytes())
    if provider == "cpu":  # CUDA reserves far more than it uses, so a limit would refuse every version
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    for folder in sys.argv[2:]:
        signal.setitimer(signal.ITIMER_REAL, settings.trial_seconds)  # its signal ends the process
        try:
            with Lanes(1) as lanes:
                load(Path(folder), provider, settings, lanes)
        except Exception as error:
            no_memory = lacks_memory(error)
            _write(_out_of_memory(limit, settings) if no_memory else _flaw(error))
            # without clean-up, which a broken graph may hang or crash
            os._exit(_EXIT_FOR_NOW if no_memory or isinstance(error, NotLoadedNow) else _EXIT_FLAWED)
        _write("")
    os._exit(0)


def _write(flaw: str) -> None:
    sys.stdout.write(json.dumps(flaw) + "\n")
    sys.stdout.flush()


def _out_of_memory(limit: int, settings: Settings) -> str:
    of = "of --trial-memory-bytes" if limit == settings.trial_memory_bytes else "that the container has left"
    return f"its trial needed more memory than the {limit / 1e6:,.0f} MB {of}"


def _flaw(error: Exception) -> str:
    return error.detail if isinstance(error, ServiceError) else f"{type(error).__name__} while it was loaded"


def free_memory_bytes(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Return the memory that the cgroup has left, page cache aside; a very large number without a limit."""
    try:
        most = int((cgroup / "memory.max").read_text())
        used = dict(line.split() for line in (cgroup / "memory.stat").read_text().splitlines())
        return max(0, most - int(used["anon"]))
    except (OSError, ValueError, KeyError):
        return 2**62


if __name__ == "__main__":
    main()
