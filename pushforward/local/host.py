"""The host of loaded versions: an event loop in a background thread, and the threads that compute."""

from __future__ import annotations

import asyncio
import os
import weakref
from collections.abc import Callable, Coroutine
from functools import lru_cache
from pathlib import Path
from threading import Lock, Thread, current_thread
from typing import Any, Final, Self, TypeVar, get_args

from pushforward.checks import shown
from pushforward.reading import is_whole
from service.errors import Draining, Unfit
from service.runtime.lanes import Lanes
from service.runtime.loader import load
from service.runtime.model import LoadedModel
from service.runtime.session import Provider, choose_provider
from service.settings import Device, Settings

Answer = TypeVar("Answer")
_NO_LIMIT: Final = 2**53
_THREAD: Final = "pushforward-"
"""The beginning of the names of all threads of a host, which cannot wait for their own end."""


class Host:
    """Loads versions and runs their operations; several threads may use it.

    All of it is made at first use. It is made again after `close`, and in a forked process, which has none of
    its parent's threads.

    Args:
        device: `cpu`, `cuda`, or `auto` for a GPU if there is one.
        cores: Cores to compute with; 0 means all that the process may use.

    Raises:
        Unfit: there is no such device, or the cores are no such number.
    """

    def __init__(self, device: Device = "cpu", cores: int = 0) -> None:
        if device not in get_args(Device):
            raise Unfit(f"the device is {shown(device)}; wanted 'cpu', 'cuda' or 'auto'")
        if not is_whole(cores) or cores < 0:
            raise Unfit(f"the cores are {shown(cores)}; wanted a number of them, or 0 for all")
        # Variables of the environment are for a service, so they are not read. The lifted limits protect a
        # service from its clients, or bound one request, of which a client sends several.
        self.settings = Settings.model_construct(
            device=device,
            cores=cores,
            max_waiting_rows=_NO_LIMIT,
            max_score_cost=_NO_LIMIT,
            max_count=_NO_LIMIT,
            max_proposals=_NO_LIMIT,
        )
        self._forget()

    def _forget(self) -> None:
        self._process = os.getpid()
        self._lock = Lock()
        self._provider: Provider | None = None
        self._workers: _Workers | None = None

    def loaded(self, folder: Path) -> LoadedModel:
        """Return the version in a folder, which is loaded at the first call.

        Raises:
            InvalidVersion: the version is damaged, or does not reproduce its stored example.
            ProviderUnavailable: the device is `cuda`, and CUDA cannot be used here.
        """
        with self._own_lock():
            workers = self._started()
            if folder not in workers.models:
                workers.load(folder, self.provider(folder), self.settings)
            return workers.models[folder]

    def run(self, operation: Coroutine[Any, Any, Answer]) -> Answer:
        """Run an operation of a loaded version to its end; an exception in this thread cancels it.

        Raises:
            Draining: another thread has closed the host meanwhile.
        """
        with self._own_lock():
            workers = self._started()
        return workers.run(operation)

    def provider(self, folder: Path) -> Provider:
        """Return the execution provider in use, which is chosen once, by trying a version.

        Raises:
            ProviderUnavailable: as `loaded`.
        """
        if self._provider is None:
            self._provider = choose_provider(self.settings.device, folder)
        return self._provider

    def close(self) -> None:
        """End the threads and free the versions; calls of other threads that have not ended fail."""
        with self._own_lock():
            if self._workers is not None:
                self._workers = None
                self._end()

    def _own_lock(self) -> Lock:
        """Return the lock; a forked process gets a new one, and forgets what its parent has made."""
        if self._process != os.getpid():
            self._forget()
        return self._lock

    def _started(self) -> _Workers:
        """Return the workers, which are made if there are none. The lock is held."""
        if self._workers is None:
            self._workers = _Workers(self.settings.granted_lanes)
            self._end = weakref.finalize(self, self._workers.close)  # at the latest when Python ends
        return self._workers


class _Workers:
    """A running event loop, the threads that compute, and the versions loaded so far."""

    def __init__(self, lanes: int) -> None:
        self.models: dict[Path, LoadedModel] = {}
        self._process = os.getpid()
        self._lanes = Lanes(lanes, thread_name_prefix=f"{_THREAD}lane")
        self._loop = asyncio.new_event_loop()
        self._closing = Lock()
        self._closed = False
        self._thread = Thread(target=self._loop.run_forever, name=f"{_THREAD}loop", daemon=True)
        self._thread.start()

    def load(self, folder: Path, provider: Provider, settings: Settings) -> None:
        model = load(folder, provider, settings, self._lanes)
        self.run(_start(model))
        self.models[folder] = model

    def run(self, operation: Coroutine[Any, Any, Answer]) -> Answer:
        with self._closing:
            if self._closed:
                operation.close()
                raise _closed()
            future = asyncio.run_coroutine_threadsafe(operation, self._loop)
        try:
            return future.result()
        except Draining as error:  # its text is for clients of a service
            raise _closed() from error
        except BaseException:
            future.cancel()
            raise

    def close(self) -> None:
        if self._process != os.getpid():
            return  # a fork: the loop and its thread are the parent's
        if current_thread().name.startswith(_THREAD):  # the garbage is collected in any thread
            Thread(target=self.close).start()
            return
        with self._closing:
            self._closed = True
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._lanes.shutdown()

    async def _stop(self) -> None:
        """Stop the versions, and wait for the calls that fail by that: their threads wait for an answer."""
        for model in self.models.values():
            await model.stop()
        self.models.clear()
        if calls := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(calls)


class Hosted:
    """A folder of one or several versions, which a host loads.

    A pickle holds the path of the folder alone. All pickles of it become one object in a process.
    """

    def __init__(self, folder: str | os.PathLike[str], device: Device, cores: int, host: Host | None) -> None:
        self.folder = Path(os.path.abspath(folder))
        self.device: Device = device
        self.cores = cores
        self._host = host or Host(device, cores)

    def __reduce__(self) -> tuple[Any, ...]:
        return _shared, (type(self), self.folder, self.device, self.cores)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the threads and free the memory; a later call loads its version again."""
        self._host.close()


@lru_cache(maxsize=16)
def _shared(kind: Callable[[Path, Device, int], Hosted], *opened: Any) -> Hosted:
    """Return the one copy that all pickles of a folder become in a process, which is loaded only once."""
    return kind(*opened)


def _closed() -> Draining:
    return Draining("the version was closed during the call")


async def _start(model: LoadedModel) -> None:
    model.start()
