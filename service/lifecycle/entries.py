"""The versions of a model that were found, what state each is in, and which of them answers."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from service.errors import InvalidVersion, NotLoadedNow
from service.format.aliases import CHAMPION
from service.lifecycle.source import Fingerprint, ModelFolder, versions_to_serve
from service.runtime.model import LoadedModel
from service.settings import Settings

State = Literal["loading", "ready", "failed", "unloaded"]
FIRST_RETRY_SECONDS = 10.0
"""The delay until a version is tried again that failed for a reason that may pass; it doubles each time."""
_LONGEST_RETRY_SECONDS = 600.0
log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class Entry:
    """A version that was found: its state, and the reason if it failed."""

    name: str
    version: int
    folder: Path
    state: State = "unloaded"
    reason: str = ""
    loaded: LoadedModel | None = None
    """The loaded version, while the state is `ready`."""
    seen: Fingerprint = ()
    """The fingerprint of its files at the last poll; empty once it has gone."""
    stable: bool = True
    """True if the last two polls found the same files, so that no copy is in progress."""
    retry_at: float = math.inf
    """The monotonic time at which a failed version is tried again."""
    retry_seconds: float = 0.0
    """The last delay until then."""

    def update(self, files: Fingerprint, *, is_start: bool) -> None:
        """Take the fingerprint that a poll has found; a failed version whose files changed is tried again.

        A version whose files are new, or still change, is `loading` until they stay. At the start no copy is
        thought to be in progress.
        """
        self.stable = files == self.seen or is_start
        if not self.stable and self.state in ("failed", "unloaded"):
            self.state = "loading"
        elif self.stable and self.state == "loading":
            self.state = "unloaded"
        if not self.stable and self.state == "ready" and files and self.seen:
            log.warning(
                "%s/%d was changed in its folder; it serves on as it was loaded. A version is never changed: "
                "publish what is new under its own number",
                self.name,
                self.version,
            )
        self.seen = files

    def fail(self, flaw: InvalidVersion) -> None:
        """Mark the version as failed; after a while it is tried again if the reason may pass."""
        self.state, self.reason, self.retry_at = "failed", flaw.detail, math.inf
        if isinstance(flaw, NotLoadedNow):
            self.retry_seconds = min(2 * self.retry_seconds, _LONGEST_RETRY_SECONDS) or FIRST_RETRY_SECONDS
            self.retry_at = time.monotonic() + self.retry_seconds

    def serve(self, loaded: LoadedModel) -> None:
        """Mark the version as ready to answer."""
        self.loaded, self.state, self.reason = loaded, "ready", ""
        self.retry_at, self.retry_seconds = math.inf, 0.0


@dataclass(slots=True, eq=False)
class ModelVersions:
    """The versions of one model: those in the folder, and those that are still served."""

    name: str
    entries: dict[int, Entry] = field(default_factory=dict)
    aliases: Mapping[str, int] = field(default_factory=dict)
    flaw: str = ""
    """The reason why its aliases could not be read at the last poll."""
    answering: Entry | None = None
    """The version that answers requests which name none."""
    routes: dict[tuple[str, str | None], LoadedModel] = field(default_factory=dict)
    """The loaded versions by the model's name and their numbers and aliases, or None for the one above."""
    unloaded: bool = False
    """True from a request to unload the model until a request to load it."""

    def update(self, found: ModelFolder, folder: Path, *, is_start: bool) -> list[int]:
        """Take what a poll has found in the model's folder; return the versions that have gone.

        Loaded ones stay until they are unloaded.
        """
        if found.flaw and found.flaw != self.flaw:
            log.error("%s; the names set before stay", found.flaw)
        self.flaw = found.flaw
        if not found.flaw and found.aliases != self.aliases:
            self.aliases = found.aliases
            for alias, version in sorted(found.aliases.items()):
                if version not in found.versions:
                    log.warning(
                        "the alias %s of %s names version %d, which is not there", alias, self.name, version
                    )
        for version in found.versions:
            self.entries.setdefault(version, Entry(self.name, version, folder / str(version)))
        for entry in self.entries.values():
            entry.update(found.versions.get(entry.version, ()), is_start=is_start)
        gone = [entry.version for entry in self.entries.values() if not entry.seen and entry.loaded is None]
        for version in gone:
            del self.entries[version]
        return gone

    def retry_what_is_due(self) -> None:
        """Let versions be loaded again that failed for a reason that may have passed."""
        for entry in self.entries.values():
            if entry.state == "failed" and entry.retry_at <= time.monotonic():
                entry.state = "unloaded"

    def newest_first(self) -> list[Entry]:
        """Return all versions, newest first."""
        return sorted(self.entries.values(), key=lambda entry: -entry.version)

    def ready(self) -> dict[int, Entry]:
        """Return the versions that can answer by number, newest first."""
        return {entry.version: entry for entry in self.newest_first() if entry.state == "ready"}

    def to_serve(self, settings: Settings) -> set[int]:
        """Return the versions to serve by the settings, as `versions_to_serve`; none of an unloaded model."""
        if self.unloaded:
            return set()
        return versions_to_serve(
            [entry.version for entry in self.entries.values() if entry.seen],
            [entry.version for entry in self.entries.values() if entry.state == "failed"],
            self.aliases.values(),
            newest=settings.newest_versions,
            pinned=settings.pins.get(self.name, ()),
        )

    def next_to_load(self, settings: Settings) -> Entry | None:
        """Return the newest version to serve that is not loaded, and whose files no longer change."""
        keep = self.to_serve(settings)
        missing = (entry for entry in self.newest_first() if entry.state in ("unloaded", "loading"))
        return next((entry for entry in missing if entry.version in keep and entry.stable), None)

    def choose(self) -> None:
        """Choose the versions that answer; requests that name none get the champion, or the newest ready one.

        While the champion is not ready, the version before it keeps answering if it is ready.
        """
        ready = self.ready()
        champion = ready.get(self.aliases.get(CHAMPION, 0))
        if champion is None and CHAMPION in self.aliases and self.answering is not None:
            champion = ready.get(self.answering.version)
        self.answering = champion or next(iter(ready.values()), None)
        versions = {str(version): version for version in self.entries} | dict(self.aliases)
        named = {name: self.entries.get(version) for name, version in versions.items()}
        self.routes = {
            (self.name, name): entry.loaded
            for name, entry in (*named.items(), (None, self.answering))
            if entry is not None and entry.loaded is not None
        }
