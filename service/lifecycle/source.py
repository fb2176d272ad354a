"""What lies in the models folder now, and which of it is to be served."""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from service.errors import InvalidAliases
from service.format.aliases import read_aliases
from service.format.versions import version_folders

Fingerprint = tuple[tuple[str, int, int, int], ...]
"""Name, size, time of change and inode of each file of a version: any copy in progress changes it."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Shelf:
    """One model in the folder: its versions, and the names they are given."""

    versions: Mapping[int, Fingerprint]
    aliases: Mapping[str, int] = field(default_factory=dict)
    flaw: str = ""
    """Why its aliases cannot be read, if they cannot."""


def shelves(root: Path) -> dict[str, Shelf]:
    """Every model of the folder that has a version, by name; reads nothing but names and aliases.

    Raises:
        OSError: the folder cannot be listed.
    """
    found: dict[str, Shelf] = {}
    for model in sorted(path for path in root.iterdir() if path.is_dir()):
        versions = {int(folder.name): fingerprint(folder) for folder in version_folders(model)}
        if not versions:
            continue
        try:
            found[model.name] = Shelf(versions, read_aliases(model))
        except InvalidAliases as error:
            found[model.name] = Shelf(versions, flaw=error.detail)
    return found


def fingerprint(folder: Path) -> Fingerprint:
    """What tells whether the files of a version are still the same; empty if they cannot be listed."""
    try:
        with os.scandir(folder) as entries:
            return tuple(sorted(_mark(entry) for entry in entries))
    except OSError:
        return ()


def _mark(entry: os.DirEntry[str]) -> tuple[str, int, int, int]:
    status = entry.stat(follow_symlinks=False)
    return entry.name, status.st_size, status.st_mtime_ns, status.st_ino


def wanted(
    versions: Iterable[int],
    failed: Collection[int],
    aliased: Iterable[int],
    *,
    newest: int = 0,
    pinned: Collection[int] = (),
) -> set[int]:
    """The versions of a model to serve: the pinned ones, else the newest and those that aliases name.

    A version that failed is passed over, so that the next older one is served in its place.

    Args:
        versions: Those in the folder.
        failed: Those that could not be loaded.
        aliased: Those that an alias names.
        newest: How many of the newest; 0 for all.
        pinned: Those that are to be served and no others, if any.
    """
    there = set(versions) - set(failed)
    if pinned:
        return there & set(pinned)
    ordered = sorted(there, reverse=True)
    return set(ordered[: newest or None]) | (there & set(aliased))
