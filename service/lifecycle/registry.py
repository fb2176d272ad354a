"""How versions come to answer, and how one takes another's place.

A look at the models folder finds the versions there are (`source`). Those that are wanted are loaded
(`admission`), and then start to answer in one step. Those that are no longer wanted are stopped after that,
once the requests that they answer have ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from service.errors import (
    InvalidVersion,
    LoadFailed,
    Loading,
    SourceUnavailable,
    UnknownModel,
    UnknownVersion,
)
from service.format.aliases import CHAMPION
from service.format.versions import read_manifest
from service.lifecycle.admission import Admission, Refused
from service.lifecycle.remote import Mirror
from service.lifecycle.source import Fingerprint, Shelf, shelves, wanted
from service.observe.metrics import Metrics
from service.runtime.allocator import give_back
from service.runtime.model import LoadedModel
from service.settings import Settings

State = Literal["loading", "ready", "failed", "unloaded"]
log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class Entry:
    """One version that was found: where it stands, and why, if it failed."""

    name: str
    version: int
    folder: Path
    state: State = "unloaded"
    reason: str = ""
    loaded: LoadedModel | None = None
    """While it is ready."""
    seen: Fingerprint = ()
    """Its files at the last look; empty once it has gone."""
    still: bool = True
    """Whether the look before found the same files, so that no copy is in progress."""


@dataclass(slots=True, eq=False)
class Model:
    """The versions of one model: those in the folder, and those still served."""

    name: str
    entries: dict[int, Entry] = field(default_factory=dict)
    aliases: Mapping[str, int] = field(default_factory=dict)
    flaw: str = ""
    """Why its aliases could not be read at the last look."""
    answering: Entry | None = None
    """What answers where a request names no version."""
    unloaded: bool = False
    """Whether it was told to be, and stays so until it is told to load."""

    def newest_first(self) -> list[Entry]:
        """Every version."""
        return sorted(self.entries.values(), key=lambda entry: -entry.version)

    def ready(self) -> dict[int, Entry]:
        """The versions that can answer, newest first."""
        return {entry.version: entry for entry in self.newest_first() if entry.state == "ready"}

    def choose(self) -> None:
        """Settles what answers without a version: the champion, if there is one, else the newest ready.

        A champion that is not ready leaves the answers to what gave them before, if that is.
        """
        ready = self.ready()
        champion = ready.get(self.aliases.get(CHAMPION, 0))
        if champion is None and CHAMPION in self.aliases and self.answering is not None:
            champion = ready.get(self.answering.version)
        self.answering = champion or next(iter(ready.values()), None)


class Registry:
    """The versions under one folder. `find` and `start` it once; then `follow` it, or `load` and `unload`."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._models: dict[str, Model] = {}
        self._routes: dict[tuple[str, str | None], LoadedModel] = {}
        self._started = False
        self._settings = settings
        self._metrics = metrics
        self._admission = Admission(settings, metrics)
        self._mirror = Mirror(settings.source, settings.folder) if settings.source else None
        self._turn = asyncio.Lock()
        self._leaving: set[asyncio.Task[None]] = set()

    def get(self, name: str, version: str | None = None) -> LoadedModel:
        """The version asked for, by number or alias; else the champion, if there is one, or the newest ready.

        Raises:
            UnknownModel, UnknownVersion: there is none; says which there are.
            Loading, LoadFailed: it is there, but cannot answer.
        """
        loaded = self._routes.get((name, version))
        if loaded is not None:
            return loaded
        entry = self.entry(name, version)
        if entry.state == "failed":
            raise LoadFailed(f"version {entry.version} of {name} could not be loaded; /v1/models says why")
        if entry.state == "unloaded" and entry.still:
            served_too = ", ".join(map(str, self._models[name].ready())) or "none"
            raise UnknownVersion(f"version {entry.version} of {name} is not served; served: {served_too}")
        raise Loading(f"version {entry.version} of {name} is being loaded")

    def entry(self, name: str, version: str | None = None) -> Entry:
        """The entry `get` looks at: the version asked for, or what answers without one, else the newest.

        Both come from a path as they are; what is unknown is not repeated in the error.

        Raises:
            UnknownModel, UnknownVersion: there is none; says which there are.
        """
        model = self._model(name)
        if version is None:
            return model.answering or model.newest_first()[0]
        known = {str(entry.version): entry for entry in model.newest_first()}
        meant = str(model.aliases.get(version, version))
        if meant not in known:
            raise UnknownVersion(f"{name} has no such version; it has: {', '.join((*known, *model.aliases))}")
        return known[meant]

    def entries(self) -> list[Entry]:
        """Every version found, by name, newest first."""
        return [entry for name in sorted(self._models) for entry in self._models[name].newest_first()]

    def aliases(self, name: str) -> Mapping[str, int]:
        """The names given to versions of a model; raises UnknownModel."""
        return self._model(name).aliases

    @property
    def state(self) -> Literal["loading", "ready", "failed", "empty"]:
        """`loading` until the start is over; then `ready` if any version is, `failed` if none is."""
        if self._started and self._routes:
            return "ready"
        entries = self.entries()
        if any(entry.state == "loading" or not entry.still for entry in entries):
            return "loading"
        return "failed" if entries else "empty"

    @property
    def ready(self) -> bool:
        """Whether requests can be taken."""
        return self.state == "ready"

    @property
    def healthy(self) -> bool:
        """False once a batcher of any version keeps dying."""
        return all(entry.loaded is None or entry.loaded.healthy for entry in self.entries())

    def find(self) -> None:
        """Lists the versions there are and settles the provider; no model is loaded yet.

        Raises:
            ProviderUnavailable: `--device cuda`, and CUDA cannot be used.
        """
        root = self._settings.folder
        try:
            found = self._found()
        except (OSError, SourceUnavailable) as error:
            log.error("%s", error)  # noqa: TRY400
            found = shelves(root) if root.is_dir() else {}
        for name, shelf in found.items():
            self._note(name, shelf)
        if not self._models:
            log.error("no published version under %s; expected NAME/VERSION/manifest.json", root)
        for model in self._models.values():
            for version in self._wanted(model):
                model.entries[version].state = "loading"
        self._admission.settle_provider(self._some_graph())

    async def start(self) -> None:
        """Loads what is wanted, newest first; a version that fails stays out and says why."""
        async with self._turn:
            for model in list(self._models.values()):
                await self._settle(model)
            self._started = True
        log.info("ready" if self.ready else "not ready: no version could be loaded")

    async def follow(self, seconds: float) -> None:
        """Looks at the folder that often, until cancelled."""
        failing = False
        while True:
            await asyncio.sleep(seconds)
            try:
                await self.look()
                failing = False
            except Exception as error:  # whatever it is, the next look may find it mended
                self._metrics.poll_failures.inc()
                if not failing:
                    log.exception("the models folder cannot be followed; all that is loaded serves on")
                failing = True
                log.debug("the look failed again: %s", error)

    async def look(self) -> None:
        """Follows the folder once: loads what has come, lets go of what has gone, and moves the aliases.

        Raises:
            OSError: the folder cannot be listed, or is suddenly empty; all that is loaded serves on.
            SourceUnavailable: so it is with the source.
        """
        async with self._turn:
            found = await asyncio.to_thread(self._found)
            if not found and self._routes:
                raise FileNotFoundError("no version is left in the models folder, as if its volume had gone")
            for name in {*self._models, *found}:
                self._note(name, found.get(name, Shelf({})))
            for model in list(self._models.values()):
                await self._settle(model)

    async def load(self, name: str) -> None:
        """Loads what is wanted of a model now, also what had failed or was unloaded.

        Raises:
            UnknownModel: there is none of that name.
            LoadFailed: its newest version could not be loaded; says why. Others of it may be served.
        """
        async with self._turn:
            with contextlib.suppress(OSError, SourceUnavailable):
                found = await asyncio.to_thread(self._found)
                if name in found:
                    self._note(name, found[name])
            model = self._model(name)
            model.unloaded = False
            for entry in model.entries.values():
                entry.still = True
                if entry.state == "failed":
                    entry.state = "unloaded"
            await self._settle(model)
            newest = model.newest_first()[0]
            if newest.state == "failed":
                raise LoadFailed(f"version {newest.version} of {name} could not be loaded: {newest.reason}")

    async def unload(self, name: str) -> None:
        """Lets go of a model; requests for it are refused until it is told to load again.

        Raises:
            UnknownModel: there is none of that name.
        """
        async with self._turn:
            model = self._model(name)
            model.unloaded = True
            await self._settle(model)

    def _model(self, name: str) -> Model:
        if name not in self._models:
            names = ", ".join(sorted(self._models)) or "none"
            raise UnknownModel(f"there is no model of that name; there are: {names}")
        return self._models[name]

    def _route(self, model: Model) -> None:
        """Has a model's versions answer as they stand now, all of them from the same moment on."""
        before = model.answering
        model.choose()
        routes = {route: loaded for route, loaded in self._routes.items() if route[0] != model.name}
        meanings = {str(version): version for version in model.entries} | dict(model.aliases)
        ready = model.ready()
        for meaning, version in meanings.items():
            if version in ready and (loaded := ready[version].loaded) is not None:
                routes[model.name, meaning] = loaded
        if model.answering is not None and model.answering.loaded is not None:
            routes[model.name, None] = model.answering.loaded
        self._routes = routes
        if self._started and model.answering is not before and model.answering is not None:
            log.info("version %d of %s answers now", model.answering.version, model.name)

    def _found(self) -> dict[str, Shelf]:
        if self._mirror is not None:
            self._mirror.refresh()
        return shelves(self._settings.folder)

    def _note(self, name: str, shelf: Shelf) -> None:
        """Brings a model's entries up to what a look has found."""
        model = self._models.setdefault(name, Model(name))
        if shelf.flaw and shelf.flaw != model.flaw:
            log.error("%s; the names set before stay", shelf.flaw)
        model.flaw = shelf.flaw
        if not shelf.flaw:
            model.aliases = shelf.aliases
        for version in shelf.versions:
            folder = self._settings.folder / name / str(version)
            model.entries.setdefault(version, Entry(name, version, folder))
        for entry in list(model.entries.values()):
            self._note_files(entry, shelf.versions.get(entry.version, ()))
            if not entry.seen and entry.loaded is None:
                del model.entries[entry.version]
                self._metrics.model_failed.labels(name, str(entry.version)).set(0)

    def _note_files(self, entry: Entry, files: Fingerprint) -> None:
        entry.still = files == entry.seen or not self._started
        if not entry.still and entry.state == "failed":
            entry.state = "unloaded"  # to be tried again
        if not entry.still and entry.state == "ready" and files and entry.seen:
            log.warning(
                "%s/%d was changed in its folder; it serves on as it was loaded. A version is never changed: "
                "publish what is new under its own number",
                entry.name,
                entry.version,
            )
        entry.seen = files

    def _wanted(self, model: Model) -> set[int]:
        if model.unloaded:
            return set()
        return wanted(
            [entry.version for entry in model.entries.values() if entry.seen],
            [entry.version for entry in model.entries.values() if entry.state == "failed"],
            model.aliases.values(),
            newest=self._settings.newest_versions,
            pinned=self._settings.pins.get(model.name, ()),
        )

    async def _settle(self, model: Model) -> None:
        """Loads what is wanted of a model and missing; only then lets go of what is not wanted."""
        while (entry := self._next_to_load(model)) is not None:
            await self._admit(entry)
            self._route(model)
        keep, ready = self._wanted(model), model.ready()
        gone = model.unloaded or not any(entry.seen for entry in model.entries.values())
        if gone or (keep and keep <= ready.keys()):
            leaving = [entry for version, entry in ready.items() if version not in keep]
            self._let_go(model, leaving)
        self._route(model)
        if not model.entries:
            del self._models[model.name]

    def _next_to_load(self, model: Model) -> Entry | None:
        keep = self._wanted(model)
        due = (
            entry
            for entry in model.newest_first()
            if entry.version in keep and entry.still and entry.state in ("unloaded", "loading")
        )
        return next(due, None)

    async def _admit(self, entry: Entry) -> None:
        """Makes an entry ready, or failed."""
        entry.state = "loading"
        labels = entry.name, str(entry.version)
        try:
            loaded = await self._admission.admit(entry.folder, entry.seen, hot=self._started)
        except Refused as refusal:
            entry.state, entry.reason = "failed", str(refusal)
            self._metrics.load_failures.labels(entry.name).inc()
            self._metrics.model_loaded.labels(*labels).set(0)
            self._metrics.model_failed.labels(*labels).set(1)
            log.error("%s/%s stays out: %s", *labels, refusal, exc_info=refusal.__cause__)  # noqa: TRY400
            return
        manifest = loaded.manifest
        self._metrics.initialise(manifest.name, manifest.operations)
        self._metrics.model_loaded.labels(*labels).set(1)
        self._metrics.model_failed.labels(*labels).set(0)
        self._metrics.model_info.labels(*labels, manifest.family, loaded.provider, manifest.sha256).set(1)
        loaded.start()
        entry.loaded, entry.state, entry.reason = loaded, "ready", ""
        log.info("serving %s/%s on %s", *labels, loaded.provider)

    def _let_go(self, model: Model, entries: list[Entry]) -> None:
        """Has entries answer nothing new, and gives their memory back once they have answered all else."""
        for entry in entries:
            loaded, entry.loaded, entry.state = entry.loaded, None, "unloaded"
            self._metrics.model_loaded.labels(entry.name, str(entry.version)).set(0)
            if not entry.seen:
                del model.entries[entry.version]
            if loaded is not None:
                task = asyncio.create_task(_left(loaded), name=f"let go of {entry.name}/{entry.version}")
                self._leaving.add(task)
                task.add_done_callback(self._leaving.discard)

    def _some_graph(self) -> Path | None:
        """A graph to try the provider on, or None if no version can be read."""
        for entry in self.entries():
            with contextlib.suppress(InvalidVersion):
                graph = next(iter(read_manifest(entry.folder).graphs.values()))
                return entry.folder / graph.file
        return None

    async def close(self) -> None:
        """Stops every version; waiting calls fail with `Draining`."""
        for task in tuple(self._leaving):
            task.cancel()
        await asyncio.gather(*self._leaving, return_exceptions=True)
        for entry in self.entries():
            if entry.loaded is not None:
                await entry.loaded.stop()
        self._admission.close()


async def _left(loaded: LoadedModel) -> None:
    """Stops a version once nobody uses it, and gives its memory back."""
    try:
        await loaded.drained()
    finally:
        await loaded.stop()
    name, version = loaded.manifest.name, loaded.manifest.version
    del loaded
    await asyncio.to_thread(give_back)
    log.info("let go of %s/%d", name, version)
