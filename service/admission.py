"""What a version goes through before it may answer: tried elsewhere, if need be, then loaded here."""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from service.errors import InvalidVersion, ServiceError
from service.inventory import Fingerprint, fingerprint
from service.loading import load
from service.metrics import Metrics
from service.provider import Provider, choose_provider
from service.served import Served
from service.settings import Settings
from service.trial import attempt
from service.versions import read_manifest, verify_files

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

    async def admit(self, folder: Path, seen: Fingerprint, *, hot: bool) -> Served:
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

    async def _admitted(self, folder: Path, seen: Fingerprint, *, hot: bool) -> Served:
        provider = await asyncio.to_thread(self._verified, folder)
        if self._settings.trial == "always" or (hot and self._settings.trial == "hot"):
            await attempt(folder, provider, self._settings)
        served = await asyncio.to_thread(load, folder, provider, self._settings, self._metrics, self._threads)
        if await asyncio.to_thread(fingerprint, folder) != seen:
            raise InvalidVersion("its files were changed while it was loaded")
        return served

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
