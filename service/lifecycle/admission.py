"""Admission: the checks of a version before it may answer.

Its files are verified; then it is tried in another process, see `trial`; then it is loaded here.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from pathlib import Path

from service.errors import InvalidVersion, NotLoadedNow, ServiceError
from service.format.versions import read_manifest, verify_files
from service.lifecycle.source import Fingerprint, fingerprint
from service.lifecycle.trial import Trials
from service.observe.metrics import Metrics
from service.runtime.lanes import Lanes
from service.runtime.loader import load
from service.runtime.model import LoadedModel
from service.runtime.session import Provider, choose_provider
from service.settings import Settings


class Admission:
    """Makes versions ready to serve, one at a time, on a provider that is chosen once."""

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
        self._trials = None if settings.trial == "never" else Trials(settings)

    def choose_provider(self, folder: Path | None) -> None:
        """Choose the provider by trying a version; without one, `auto` waits for the first version.

        Raises:
            ProviderUnavailable: `--device cuda`, and CUDA cannot be used.
        """
        if folder is not None or self._settings.device != "auto":
            self._provider = choose_provider(self._settings.device, folder)
            self._metrics.provider_active.labels(self._provider).set(1)

    async def try_together(self, folders: Sequence[Path]) -> None:
        """Try the versions in these folders that are still unknown; `admit` says why one fails."""
        if self._trials is not None and self._provider is not None:
            with contextlib.suppress(InvalidVersion):
                await self._trials.check_together(folders, self._provider)

    async def admit(self, folder: Path, seen: Fingerprint) -> LoadedModel:
        """Return the version of a folder loaded, warmed up and self-tested; its batchers are not started.

        If the files no longer have the fingerprint `seen`, it is refused.

        Raises:
            NotLoadedNow: it is not admitted, for a reason that may pass.
            InvalidVersion: it is not admitted; the message names no folder of this machine.
        """
        try:
            provider = await asyncio.to_thread(self._verify, folder)
            if self._trials is not None:
                await self._trials.check(folder, provider)
            inputs = folder, provider, self._settings, self._metrics, self.lanes
            loaded = await asyncio.to_thread(load, *inputs)
            if await asyncio.to_thread(fingerprint, folder) != seen:
                raise InvalidVersion("its files were changed while it was loaded")  # noqa: TRY301
        except Exception as error:
            reason = error.detail if isinstance(error, ServiceError) else type(error).__name__
            kind = NotLoadedNow if isinstance(error, NotLoadedNow | MemoryError | OSError) else InvalidVersion
            raise kind(reason.replace(f"{folder}/", "").replace(f"{folder}", folder.name)) from error
        return loaded

    def _verify(self, folder: Path) -> Provider:
        """Find damaged files before any process is started; choose the provider if that is still open."""
        if folder.is_symlink():
            raise InvalidVersion("it is a symbolic link; copy the version, or link the folder of its model")
        manifest = read_manifest(folder)
        verify_files(folder, manifest)
        if self._provider is None:
            self.choose_provider(folder)
        assert self._provider is not None
        return self._provider

    def close(self) -> None:
        """End the threads, once no version uses them."""
        self.lanes.shutdown(wait=False, cancel_futures=True)
