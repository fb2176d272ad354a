"""The models folder: the versions in it, and those of them that are to be served."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from service.errors import InvalidAliases
from service.format.aliases import read_aliases
from service.format.manifest import MODEL_NAME
from service.format.versions import version_folders

Fingerprint = tuple[tuple[str, *tuple[int, ...]], ...]
"""Name, size, time of change, inode and rights of each file of a version; a copy in progress changes it."""


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """A model in the folder: its versions and their aliases."""

    versions: Mapping[int, Fingerprint]
    aliases: Mapping[str, int] = field(default_factory=dict)
    flaw: str = ""
    """The reason why the aliases cannot be read, if they cannot."""
    unlisted: str = ""
    """The reason why the folder cannot be listed, so that nothing is known of it; empty if it can."""


def scan(root: Path) -> dict[str, ModelFolder]:
    """List every model of the folder that has a version, by name; only names and aliases are read.

    Folders that are hidden, or whose names cannot be shown, are no models. One that cannot be listed is
    reported if its name is that of a model: a volume's `lost+found` is no fault.

    Raises:
        OSError: the folder cannot be listed.
    """
    found: dict[str, ModelFolder] = {}
    for model in sorted(path for path in root.iterdir() if path.is_dir() and _is_shown(path.name)):
        try:
            folders = version_folders(model, linked=True)
        except FileNotFoundError:  # it has just gone
            continue
        except OSError as error:
            if re.fullmatch(MODEL_NAME, model.name):
                found[model.name] = ModelFolder({}, unlisted=str(error.strerror))
            continue
        versions = {int(folder.name): fingerprint(folder) for folder in folders}
        if not versions:
            continue
        try:
            found[model.name] = ModelFolder(versions, read_aliases(model))
        except InvalidAliases as error:
            found[model.name] = ModelFolder(versions, flaw=error.detail)
    return found


def _is_shown(name: str) -> bool:
    return name.isprintable() and not name.startswith(".")


def folder_times(root: Path) -> tuple[tuple[str, int], ...]:
    """Return when the folder and each one in it last changed, by name; empty if it cannot be listed.

    What comes, goes or is renamed in a folder changes its time: a model, a version, aliases; but not what
    happens to the files of a version.
    """
    times: list[tuple[str, int]] = []
    with contextlib.suppress(OSError), os.scandir(root) as entries:
        times.append(("", root.stat().st_mtime_ns))
        for entry in entries:
            with contextlib.suppress(OSError):  # it has just gone, or is a link to nothing
                times.append((entry.name, entry.stat().st_mtime_ns))
    return tuple(sorted(times))


def unlisted(found: Mapping[str, ModelFolder]) -> str:
    """Return which folders of models cannot be listed, and why; empty if all can."""
    reasons = [f"{name} ({folder.unlisted})" for name, folder in found.items() if folder.unlisted]
    return f"folders of models that cannot be listed: {', '.join(reasons)}" if reasons else ""


def fingerprint(folder: Path) -> Fingerprint:
    """Return a value that changes with the files of a version; empty if it is gone or has none.

    Of a folder that cannot be listed, it is the system's reason, so that the version is not taken for gone.
    """
    files: list[tuple[str, os.stat_result]] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):  # it has just gone
                    files.append((entry.name, entry.stat(follow_symlinks=False)))
    except (FileNotFoundError, NotADirectoryError):
        return ()
    except OSError as error:
        return ((str(error.strerror), 0),)
    return tuple(
        (name, stat.st_size, stat.st_mtime_ns, stat.st_ino, stat.st_mode, stat.st_uid, stat.st_gid)
        for name, stat in sorted(files)
    )


def versions_to_serve(
    versions: Iterable[int],
    failed: Collection[int],
    aliased: Iterable[int],
    *,
    newest: int = 0,
    pinned: Collection[int] = (),
) -> set[int]:
    """Return the versions of a model to serve: the pinned ones, else the newest and the aliased ones.

    A version that could not be loaded (`failed`) is skipped, so that the next older one is served instead.
    `newest` is the number of newest versions, 0 for all; if any are `pinned`, no others are served.
    """
    there = set(versions) - set(failed)
    if pinned:
        return there & set(pinned)
    ordered = sorted(there, reverse=True)
    return set(ordered[: newest or None]) | (there & set(aliased))
