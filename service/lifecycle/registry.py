"""The registry: which versions there are, which of them are loaded, and which one answers a request.

A poll of the models folder finds the versions (`source`). New versions to serve are loaded (`admission`) and
then start to answer in one step. After that, versions that are not to be served any more are unloaded, each
once the requests that use it have ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
from collections.abc import Mapping
from typing import Literal

from service.errors import (
    InvalidVersion,
    LoadFailed,
    Loading,
    ServiceError,
    SourceUnavailable,
    UnknownModel,
    UnknownVersion,
)
from service.format.manifest import Manifest
from service.lifecycle.admission import Admission
from service.lifecycle.entries import Entry, ModelVersions
from service.lifecycle.remote import Mirror, with_cause, without_paths
from service.lifecycle.source import ModelFolder, folder_times, scan, unlisted
from service.observe.metrics import Metrics
from service.runtime.allocator import return_free_memory
from service.runtime.model import LoadedModel
from service.settings import Settings

log = logging.getLogger(__name__)


class Registry:
    """The versions of a folder. Call `discover` and `start` once, then `poll`, or `load` and `unload`."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._models: dict[str, ModelVersions] = {}
        self._routes: dict[tuple[str, str | None], LoadedModel] = {}
        self._required: set[str] = set()
        """Names of the models that were found at the start, or are pinned."""
        self._started = False
        self._settings = settings
        self._metrics = metrics
        self._admission = Admission(settings, metrics)
        self._mirror = Mirror(settings.source, settings.folder) if settings.source else None
        self._lock = asyncio.Lock()
        self._unloading: set[asyncio.Task[None]] = set()
        self._times: tuple[tuple[str, int], ...] = ()
        """The times of the folder and those in it, just before the last poll."""
        self.poll_failure = ""
        """The reason why the folder or its source could not be read at the last poll; empty if it could."""

    def get(self, name: str, version: str | None = None) -> LoadedModel:
        """Return the version with a number or alias; without one, the version that answers for the model.

        Raises:
            UnknownModel, UnknownVersion: it does not exist; says which do.
            Loading, LoadFailed: it exists, but cannot answer.
        """
        loaded = self._routes.get((name, version))
        if loaded is not None:
            return loaded
        entry = self.entry(name, version)
        if entry.state == "failed":
            raise LoadFailed(f"version {entry.version} of {name} could not be loaded; /v1/models says why")
        if entry.state == "unloaded":
            served_too = ", ".join(map(str, self._models[name].ready())) or "none"
            raise UnknownVersion(f"version {entry.version} of {name} is not served; served: {served_too}")
        raise Loading(f"version {entry.version} of {name} is being loaded")

    def entry(self, name: str, version: str | None = None) -> Entry:
        """Return the entry of a version by number or alias; without one, the one that answers, or the newest.

        Errors do not repeat the name or version, which come from a path.

        Raises:
            UnknownModel, UnknownVersion: it does not exist; says which do.
        """
        model = self._model(name)
        if version is None:
            return model.answering or model.newest_first()[0]
        known = {str(entry.version): entry for entry in model.newest_first()}
        number = str(model.aliases.get(version, version))
        if number not in known:
            raise UnknownVersion(f"{name} has no such version; it has: {', '.join((*known, *model.aliases))}")
        return known[number]

    def entries(self) -> list[Entry]:
        """Return every version, by name, newest first."""
        return [entry for name in sorted(self._models) for entry in self._models[name].newest_first()]

    def manifests(self) -> list[Manifest]:
        """Return the manifests of the versions that answer for their models, by the models' names."""
        answering = (self._models[name].answering for name in sorted(self._models))
        return [entry.loaded.manifest for entry in answering if entry and entry.loaded]

    @property
    def unfetched(self) -> Mapping[tuple[str, int], str]:
        """Return why versions of the source could not be fetched at the last poll, by name and number."""
        return {} if self._mirror is None else self._mirror.unfetched

    def aliases(self, name: str) -> Mapping[str, int]:
        """Return the aliases of a model. Raises UnknownModel."""
        return self._model(name).aliases

    @property
    def lacking(self) -> list[str]:
        """Return the models of the start none of whose versions can answer, though one should."""
        found = {name: self._models.get(name) for name in self._required}
        return sorted(
            name
            for name, model in found.items()
            if (name in self._settings.pins if model is None else not (model.answering or model.unloaded))
        )

    @property
    def state(self) -> Literal["loading", "ready", "failed", "failing", "empty"]:
        """Return `loading` until the start is over; then `ready` unless a model of the start lacks a version.

        It is `failing` while there is a `flaw`. A model that comes later, and has no version that can be
        loaded, does not stop the others.
        """
        if self._started and self._routes and not self.lacking:
            return "failing" if self.flaw else "ready"
        entries = self.entries()
        if any(entry.state == "loading" for entry in entries):
            return "loading"
        return "failed" if entries else "empty"

    @property
    def ready(self) -> bool:
        """Return True if requests can be answered."""
        return self.state == "ready"

    @property
    def flaw(self) -> str:
        """Return how computations fail, all those of a version or one that never ends; else an empty text."""
        flaws = [
            f"the computations of {entry.name}/{entry.version} keep failing"
            for entry in self.entries()
            if entry.loaded is not None and not entry.loaded.healthy
        ]
        return ", and ".join(filter(None, [*flaws, self._admission.lanes.flaw]))

    def discover(self) -> None:
        """List the versions and choose the provider; no version is loaded yet.

        Raises:
            ProviderUnavailable: `--device cuda`, and CUDA cannot be used.
        """
        root = self._settings.folder
        try:
            found = self._scan()
        except (OSError, SourceUnavailable) as error:
            self.poll_failure = without_paths(error)
            log.error("%s", with_cause(error))  # noqa: TRY400
            found = {}
            with contextlib.suppress(OSError):
                found = scan(root)  # what an earlier look at the source has left
        if not os.path.lexists(root):
            log.error("the models folder %s does not exist; if that is no slip, it is waited for", root)
        if flaw := unlisted(found):
            self.poll_failure = flaw
            log.error("%s", flaw)
        for name, model_folder in found.items():
            self._update(name, model_folder)
        for name, versions in self._settings.pins.items():
            self._required.add(name)
            there = self._models[name].entries if name in self._models else {}
            for version in sorted(versions - there.keys()):
                log.error(
                    "%s/%d is pinned and not in the models folder, which has of that model: %s",
                    *(name, version, ", ".join(map(str, sorted(there))) or "no version"),
                )
        if not self._models:
            log.error("no published version under %s; expected NAME/VERSION/manifest.json", root)
        for model in self._models.values():
            for version in model.to_serve(self._settings):
                model.entries[version].state = "loading"
                self._required.add(model.name)
        self._admission.choose_provider([entry.folder for entry in self.entries()])

    async def start(self) -> None:
        """Load the versions to serve, newest first; a version that fails is left out, with a reason."""
        async with self._lock:
            to_load = [entry.folder for entry in self.entries() if entry.state == "loading"]
            await self._admission.prepare_together(to_load)
            await self._reconcile_all()
            self._started = True
        log.info("ready" if self.ready else "not ready: no version could be loaded of a model, or of any")

    async def retry(self) -> bool:
        """Load what failed for a moment, if it is time to. Return True if only such versions are left."""
        async with self._lock:
            await self._reconcile_all()
        return not self._routes and any(entry.retry_at < math.inf for entry in self.entries())

    def has_changed(self) -> bool:
        """Return True if the times of the folder are not those of the last poll; looks at the disk."""
        return folder_times(self._settings.folder) != self._times

    async def poll(self) -> None:
        """Follow the folder once: load new versions, unload those that have gone, and move the aliases.

        Raises:
            OSError: the folder cannot be listed, or is suddenly empty; the loaded versions serve on. Or the
                folder of a model cannot be listed: all others are followed.
            SourceUnavailable: the same is true of the source.
        """
        async with self._lock:
            found = await asyncio.to_thread(self._scan)
            if not found and self._routes:
                raise FileNotFoundError("no version is left in the models folder, as if its volume had gone")
            for name in {*self._models, *found}:
                self._update(name, found.get(name, ModelFolder({})))
            await self._reconcile_all()
            if flaw := unlisted(found):
                raise OSError(flaw)

    async def load(self, name: str) -> None:
        """Load the versions to serve of a model now, also those that failed or were unloaded.

        Raises:
            UnknownModel: there is no model of that name.
            LoadFailed: its newest version could not be loaded, or none could; says why.
        """
        async with self._lock:
            with contextlib.suppress(OSError, SourceUnavailable):
                found = await asyncio.to_thread(self._scan)
                if name in found:
                    self._update(name, found[name])
            model = self._model(name)
            model.unloaded = False
            for entry in model.entries.values():
                entry.stable = True
                if entry.state == "failed":
                    entry.state = "unloaded"
            await self._reconcile(model)
            newest, *older = model.newest_first()
            for entry in (newest, *(older if model.answering is None else ())):
                if entry.state == "failed":
                    raise LoadFailed(f"version {entry.version} of {name} could not be loaded: {entry.reason}")

    async def unload(self, name: str) -> None:
        """Unload a model; requests for it are refused until `load`.

        Raises:
            UnknownModel: there is no model of that name.
        """
        async with self._lock:
            model = self._model(name)
            model.unloaded = True
            await self._reconcile(model)

    def _model(self, name: str) -> ModelVersions:
        if name not in self._models:
            names = ", ".join(sorted(self._models)) or "none"
            raise UnknownModel(f"there is no model of that name; there are: {names}")
        return self._models[name]

    def _update_routes(self, model: ModelVersions) -> None:
        """Route requests to the versions that are ready now, by one assignment."""
        before, earlier = model.answering, model.routes
        model.choose()
        if model.routes != earlier:  # else polls of many models would take long
            others = {route: loaded for route, loaded in self._routes.items() if route not in earlier}
            self._routes = others | model.routes
        if self._started and model.answering is not before and model.answering is not None:
            log.info("version %d of %s answers now", model.answering.version, model.name)

    def _scan(self) -> dict[str, ModelFolder]:
        self._times = folder_times(self._settings.folder)
        if self._mirror is not None:
            try:
                self._mirror.refresh()
            finally:
                self._metrics.unfetched.set(len(self._mirror.unfetched))
            self._times = folder_times(self._settings.folder)  # with what it has fetched
        return scan(self._settings.folder)

    def _update(self, name: str, found: ModelFolder) -> None:
        """Update the entries of a model by what a poll has found."""
        if found.unlisted:
            return
        model = self._models.setdefault(name, ModelVersions(name))
        for version in model.update(found, self._settings.folder / name, is_start=not self._started):
            self._metrics.model_failed.labels(name, str(version)).set(0)
        if not model.entries:
            del self._models[name]

    async def _reconcile_all(self) -> None:
        for model in list(self._models.values()):
            await self._reconcile(model)

    async def _reconcile(self, model: ModelVersions) -> None:
        """Load the missing versions to serve of a model; only then unload those not to be served."""
        model.retry_what_is_due()
        while (entry := model.next_to_load(self._settings)) is not None:
            await self._admit(entry)
            self._update_routes(model)
        keep, ready = model.to_serve(self._settings), model.ready()
        gone = model.unloaded or not any(entry.seen for entry in model.entries.values())
        if gone or (keep and keep <= ready.keys()):
            for entry in [entry for version, entry in ready.items() if version not in keep]:
                self._unload(model, entry)
        self._update_routes(model)
        if not model.entries:
            del self._models[model.name]

    async def _admit(self, entry: Entry) -> None:
        """Load an entry's version; the entry is then ready or failed."""
        entry.state = "loading"
        labels = entry.name, str(entry.version)
        try:
            loaded = await self._admission.admit(entry.folder, entry.seen)
        except InvalidVersion as flaw:
            entry.fail(flaw)
            self._metrics.load_failures.labels(entry.name).inc()
            self._metrics.model_loaded.labels(*labels).set(0)
            self._metrics.model_failed.labels(*labels).set(1)
            cause = None if isinstance(flaw.__cause__, ServiceError) else flaw.__cause__  # which says enough
            log.error("%s/%s stays out: %s", *labels, flaw, exc_info=cause)  # noqa: TRY400
            return
        manifest = loaded.manifest
        self._metrics.initialise(manifest.name, manifest.operations)
        self._metrics.model_loaded.labels(*labels).set(1)
        self._metrics.model_failed.labels(*labels).set(0)
        self._metrics.model_info.labels(*labels, manifest.family, loaded.provider, manifest.sha256).set(1)
        loaded.start()
        entry.serve(loaded)
        log.info("serving %s/%s on %s", *labels, loaded.provider)

    def _unload(self, model: ModelVersions, entry: Entry) -> None:
        """Take an entry out of use; its version is stopped and freed once its requests have ended."""
        loaded, entry.loaded, entry.state = entry.loaded, None, "unloaded"
        self._metrics.model_loaded.labels(entry.name, str(entry.version)).set(0)
        if not entry.seen:
            del model.entries[entry.version]
        if loaded is not None:
            task = asyncio.create_task(_stop_unused(loaded), name=f"unload {entry.name}/{entry.version}")
            self._unloading.add(task)
            task.add_done_callback(self._unloading.discard)

    async def close(self) -> None:
        """Stop every version, and a look at the source; waiting calls fail with `Draining`."""
        if self._mirror is not None:
            self._mirror.stop()
        for task in tuple(self._unloading):
            task.cancel()
        await asyncio.gather(*self._unloading, return_exceptions=True)
        for entry in self.entries():
            if entry.loaded is not None:
                await entry.loaded.stop()
        self._admission.close()


async def _stop_unused(loaded: LoadedModel) -> None:
    """Stop a version once no request uses it, and free its memory."""
    try:
        await loaded.drained()
    finally:
        await loaded.stop()
    name, version = loaded.manifest.name, loaded.manifest.version
    del loaded
    await asyncio.to_thread(return_free_memory)
    log.info("let go of %s/%d", name, version)
