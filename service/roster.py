"""Which versions there are, where each stands, and which of them answers a name."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from service.aliases import CHAMPION
from service.errors import LoadFailed, Loading, UnknownModel, UnknownVersion
from service.inventory import Fingerprint
from service.served import Served

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
    served: Served | None = None
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


class Roster:
    """The models, and a route to each version that can answer."""

    def __init__(self) -> None:
        self._models: dict[str, Model] = {}
        self._routes: dict[tuple[str, str | None], Served] = {}
        self._started = False

    def get(self, name: str, version: str | None = None) -> Served:
        """The version asked for, by number or alias; else the champion, if there is one, or the newest ready.

        Raises:
            UnknownModel, UnknownVersion: there is none; says which there are.
            Loading, LoadFailed: it is there, but cannot answer.
        """
        served = self._routes.get((name, version))
        if served is not None:
            return served
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

    def _model(self, name: str) -> Model:
        if name not in self._models:
            names = ", ".join(sorted(self._models)) or "none"
            raise UnknownModel(f"there is no model of that name; there are: {names}")
        return self._models[name]

    def _route(self, model: Model) -> None:
        """Has a model's versions answer as they stand now, all of them from the same moment on."""
        before = model.answering
        model.choose()
        routes = {route: served for route, served in self._routes.items() if route[0] != model.name}
        meanings = {str(version): version for version in model.entries} | dict(model.aliases)
        ready = model.ready()
        for meaning, version in meanings.items():
            if version in ready and (served := ready[version].served) is not None:
                routes[model.name, meaning] = served
        if model.answering is not None and model.answering.served is not None:
            routes[model.name, None] = model.answering.served
        self._routes = routes
        if self._started and model.answering is not before and model.answering is not None:
            log.info("version %d of %s answers now", model.answering.version, model.name)

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
        return all(entry.served is None or entry.served.healthy for entry in self.entries())
