"""The versions of a model that were found, what state each is in, and which of them answers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from service.format.aliases import CHAMPION
from service.lifecycle.source import Fingerprint
from service.runtime.model import LoadedModel

State = Literal["loading", "ready", "failed", "unloaded"]


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
    unloaded: bool = False
    """True from a request to unload the model until a request to load it."""

    def newest_first(self) -> list[Entry]:
        """Return all versions, newest first."""
        return sorted(self.entries.values(), key=lambda entry: -entry.version)

    def ready(self) -> dict[int, Entry]:
        """Return the versions that can answer by number, newest first."""
        return {entry.version: entry for entry in self.newest_first() if entry.state == "ready"}

    def choose(self) -> None:
        """Choose the version that answers requests which name none: the champion, else the newest ready one.

        While the champion is not ready, the version before it keeps answering if it is ready.
        """
        ready = self.ready()
        champion = ready.get(self.aliases.get(CHAMPION, 0))
        if champion is None and CHAMPION in self.aliases and self.answering is not None:
            champion = ready.get(self.answering.version)
        self.answering = champion or next(iter(ready.values()), None)
