"""Admission: the checks of a version before it may answer.

It is tried in another process, see `trial`, which may crash without harm; then it is loaded here. Both verify
its files.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from service.errors import InvalidVersion, NotLoadedNow, ServiceError
from service.format.versions import read_manifest, verify_files
from service.lifecycle.source import Fingerprint, fingerprint
from service.lifecycle.trial import Trials
from service.observe.metrics import Metrics
from service.runtime.lanes import Lanes
from service.runtime.loader import OpenedVersion, open_version
from service.runtime.model import LoadedModel
from service.runtime.session import Provider, choose_provider
from service.settings import Settings, has_gpu

_MOST_OPENED_AT_ONCE: Final = 4
"""The most versions that are opened side by side, since the bytes of each are in memory twice meanwhile."""


class Admission:
    """Makes versions ready to serve, on a provider that is chosen once."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._settings = settings
        self._metrics = metrics
        self.lanes = metrics.buffered(
            Lanes(
                settings.granted_lanes,
                stuck_seconds=settings.deadline_seconds,
                gauge=metrics.oldest_batch_seconds,
            )
        )
        self._provider: Provider | None = None
        self._opened: dict[Path, OpenedVersion] = {}
        """The versions of the start that are open and not admitted yet."""
        self._flaws: dict[Path, InvalidVersion] = {}
        """The flaws of those that failed their trial, which `admit` tells of."""
        self._trials = None if settings.trial == "never" else Trials(settings)

    def choose_provider(self, folders: Sequence[Path]) -> None:
        """Choose the provider by the first version that is whole; without one, `auto` waits for one.

        Raises:
            ProviderUnavailable: `--device cuda`, and CUDA cannot be used.
        """
        needs_none = self._settings.device == "cpu"
        folder = None if needs_none else next(filter(_is_whole, folders), None)
        if folder is not None or self._settings.device != "auto":
            self._provider = choose_provider(self._settings.device, folder)
            self._metrics.provider_active.labels(self._provider).set(1)

    async def prepare_together(self, folders: Sequence[Path]) -> None:
        """Try the versions in these folders that are still unknown, then open those that passed side by side.

        `admit` says why one fails. It also times them, one after the other: beside others they would seem
        slower than they are.
        """
        provider = self._provider
        if provider is None:
            return
        folders = [folder for folder in folders if not folder.is_symlink()]
        self._flaws = {} if self._trials is None else await self._trials.check(folders, provider)
        at_once = asyncio.Semaphore(min(self._settings.own_cores, _MOST_OPENED_AT_ONCE))

        async def open_one(folder: Path) -> None:
            async with at_once:
                with contextlib.suppress(Exception):
                    self._opened[folder] = await self._open_tried(folder, provider)

        await asyncio.gather(*(open_one(folder) for folder in folders if folder not in self._flaws))

    async def admit(self, folder: Path, seen: Fingerprint) -> LoadedModel:
        """Return the version of a folder loaded, warmed up and self-tested; its batchers are not started.

        If the files no longer have the fingerprint `seen`, it is refused.

        Raises:
            NotLoadedNow: it is not admitted, for a reason that may pass.
            InvalidVersion: it is not admitted; the message names no folder of this machine.
        """
        try:
            opened = self._opened.pop(folder, None) or await self._open(folder)
            loaded = await asyncio.to_thread(opened.load, self._settings, self.lanes, self._metrics)
            if await asyncio.to_thread(fingerprint, folder) != seen:
                raise InvalidVersion("its files were changed while it was loaded")  # noqa: TRY301
        except Exception as error:
            reason = error.detail if isinstance(error, ServiceError) else type(error).__name__
            kind = NotLoadedNow if isinstance(error, NotLoadedNow | MemoryError | OSError) else InvalidVersion
            raise kind(reason.replace(f"{folder}/", "").replace(f"{folder}", folder.name)) from error
        return loaded

    async def _open(self, folder: Path) -> OpenedVersion:
        _refuse_link(folder)
        provider = await asyncio.to_thread(self._provider_for, folder)
        flaw = self._flaws.pop(folder, None)
        if flaw is None and self._trials is not None:
            flaw = (await self._trials.check([folder], provider)).get(folder)
        if flaw is not None:
            raise flaw
        return await self._open_tried(folder, provider)

    async def _open_tried(self, folder: Path, provider: Provider) -> OpenedVersion:
        return await asyncio.to_thread(open_version, folder, provider, self._settings)

    def _provider_for(self, folder: Path) -> Provider:
        """Return the provider; if that is still open, choose it now, by a version that is not damaged."""
        if self._provider is None:
            verify_files(folder, read_manifest(folder))
            self.choose_provider([folder])
        assert self._provider is not None
        return self._provider

    def close(self) -> None:
        """End the threads, once no version uses them."""
        self.lanes.shutdown(wait=False, cancel_futures=True)


def _refuse_link(folder: Path) -> None:
    if folder.is_symlink():
        raise InvalidVersion("it is a symbolic link; copy the version, or link the folder of its model")


def _is_whole(folder: Path) -> bool:
    """Return True if a version can be read and, where there is a GPU to fail on it, is not damaged."""
    try:
        manifest = read_manifest(folder)
        if has_gpu():
            verify_files(folder, manifest)
    except (InvalidVersion, OSError):  # its admission says which
        return False
    return True
