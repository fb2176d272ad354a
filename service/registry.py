"""Finds the published versions of a folder, loads them, and answers which one serves a name."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from service.engine import Provider, choose_provider
from service.errors import (
    InvalidVersion,
    LoadFailed,
    Loading,
    ServiceError,
    UnknownModel,
    UnknownVersion,
)
from service.loading import load
from service.metrics import Metrics
from service.served import Served
from service.settings import Settings
from service.versions import read_manifest, version_folders

State = Literal["loading", "ready", "failed"]

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Entry:
    """One version that was found: where it stands, and why, if it failed."""

    name: str
    version: int
    folder: Path
    state: State = "loading"
    reason: str = ""
    served: Served | None = None


class Registry:
    """The versions under one folder. `load` once in the event loop; `get` from then on."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._settings = settings
        self._metrics = metrics
        self._threads = ThreadPoolExecutor(settings.granted_lanes, thread_name_prefix="lane")
        self._entries: dict[str, dict[int, Entry]] = {}
        self._newest: dict[str, Served] = {}
        self.provider: Provider = "cpu"

    def find(self) -> None:
        """Lists the versions there are and settles the provider; no model is loaded yet.

        Raises:
            ProviderUnavailable: `--device cuda`, and CUDA cannot be used.
        """
        root = self._settings.models
        folders = sorted(path for path in root.iterdir() if path.is_dir()) if root.is_dir() else []
        for model in folders:
            versions = {
                int(folder.name): Entry(model.name, int(folder.name), folder)
                for folder in version_folders(model)
            }
            if versions:
                self._entries[model.name] = versions
        if not self._entries:
            log.error("no published version under %s; expected NAME/VERSION/manifest.json", root)
        self.provider = choose_provider(self._settings.device, self._some_graph())
        self._metrics.provider_active.labels(self.provider).set(1)

    async def load(self) -> None:
        """Loads every version found, newest first; one that fails stays out and says why."""
        entries = [entry for versions in self._entries.values() for entry in versions.values()]
        for entry in sorted(entries, key=lambda entry: -entry.version):
            await asyncio.to_thread(self._load, entry)
            if entry.served is not None:
                entry.served.start()
                entry.state = "ready"
                newest = self._newest.setdefault(entry.name, entry.served)
                if newest.manifest.version < entry.version:
                    self._newest[entry.name] = entry.served
                log.info("serving %s/%d on %s", entry.name, entry.version, entry.served.provider)
        log.info("ready" if self.ready else "not ready: no version could be loaded")

    def _load(self, entry: Entry) -> None:
        try:
            served = load(entry.folder, self.provider, self._settings, self._metrics, self._threads)
        except Exception as error:
            entry.state = "failed"
            detail = error.detail if isinstance(error, ServiceError) else type(error).__name__
            entry.reason = detail.replace(f"{entry.folder}/", "")  # no folder of this machine leaves it
            self._metrics.load_failures.labels(entry.name).inc()
            self._metrics.model_loaded.labels(entry.name, str(entry.version)).set(0)
            self._metrics.model_failed.labels(entry.name, str(entry.version)).set(1)
            log.exception("%s/%d stays out", entry.name, entry.version)
            return
        manifest = served.manifest
        self._metrics.initialise(manifest.name, manifest.operations)
        self._metrics.model_loaded.labels(manifest.name, str(manifest.version)).set(1)
        self._metrics.model_failed.labels(manifest.name, str(manifest.version)).set(0)
        self._metrics.model_info.labels(
            manifest.name, str(manifest.version), manifest.family, served.provider, manifest.sha256
        ).set(1)
        entry.served = served

    def _some_graph(self) -> Path | None:
        """A graph to try the provider on, or None if no version can be read."""
        for entry in self.entries():
            with contextlib.suppress(InvalidVersion):
                graph = next(iter(read_manifest(entry.folder).graphs.values()))
                return entry.folder / graph.file
        return None

    async def close(self) -> None:
        """Stops every version; waiting calls fail with `Draining`."""
        for entry in self.entries():
            if entry.served is not None:
                await entry.served.stop()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def entries(self) -> list[Entry]:
        """Every version found, by name, newest first."""
        return [
            versions[version]
            for versions in self._entries.values()
            for version in sorted(versions, reverse=True)
        ]

    def get(self, name: str, version: str | None = None) -> Served:
        """The version asked for, or the newest that is ready.

        Raises:
            UnknownModel, UnknownVersion: there is none; says which there are.
            Loading, LoadFailed: it is there, but cannot answer.
        """
        if version is None and name in self._newest:
            return self._newest[name]
        entry = self.entry(name, version)
        if entry.served is not None and entry.state == "ready":
            return entry.served
        if entry.state == "failed":
            raise LoadFailed(f"version {entry.version} of {name} could not be loaded; /v1/models says why")
        raise Loading(f"version {entry.version} of {name} is being loaded")

    def entry(self, name: str, version: str | None = None) -> Entry:
        """The entry `get` looks at: the version asked for, or the newest ready, else the newest.

        Both come from a path as they are; what is unknown is not repeated in the error.

        Raises:
            UnknownModel, UnknownVersion: there is none; says which there are.
        """
        versions = self._entries.get(name)
        if versions is None:
            names = ", ".join(self._entries) or "none"
            raise UnknownModel(f"there is no model of that name; there are: {names}")
        if version is not None:
            known = {str(number): entry for number, entry in versions.items()}
            if version not in known:
                raise UnknownVersion(f"{name} has no such version; it has: {', '.join(known)}")
            return known[version]
        ready = [number for number, entry in versions.items() if entry.state == "ready"]
        return versions[max(ready or versions)]

    @property
    def state(self) -> State | Literal["empty"]:
        """`ready` once nothing is loading and at least one version is ready; `failed` if none is."""
        states = {entry.state for entry in self.entries()}
        for state in ("loading", "ready", "failed"):
            if state in states:
                return state
        return "empty"

    @property
    def ready(self) -> bool:
        """Whether requests can be taken."""
        return self.state == "ready"

    @property
    def healthy(self) -> bool:
        """False once a batcher of any version keeps dying."""
        return all(entry.served is None or entry.served.healthy for entry in self.entries())
