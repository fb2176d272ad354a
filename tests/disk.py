"""The order in which files are flushed to the disk and get their names, which says what a crash leaves."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

Place = str | os.PathLike[str]


class Disk:
    """Follows flushes and renames while they are done."""

    def __init__(self) -> None:
        self._flushed: list[str] = []
        self._named: dict[str, int] = {}
        """The number of earlier flushes, by the name that a file or folder was given."""

    def before(self, name: str) -> set[str]:
        """The names of all that was flushed before the rename to this one, its own among them."""
        return set(self._flushed[: self._named[name]])

    def after(self, name: str) -> set[str]:
        """The names of all that was flushed after it."""
        return set(self._flushed[self._named[name] :])

    def flushed(self, descriptor: int) -> None:
        self._flushed.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)

    def named(self, old: Place, new: Place) -> None:
        old, new = Path(old).name, Path(new).name
        self._flushed = [new if name == old else name for name in self._flushed]
        self._named[new] = len(self._flushed)


@contextmanager
def followed() -> Iterator[Disk]:
    """The disk as this process uses it in a `with` block."""
    disk = Disk()

    def told(tell: Callable[..., None], do: Callable[..., None]) -> Callable[..., None]:
        def done(*arguments: object, **options: object) -> None:
            do(*arguments, **options)
            tell(*arguments)

        return done

    with pytest.MonkeyPatch.context() as system:
        system.setattr(os, "fsync", told(disk.flushed, os.fsync))
        for rename in ("rename", "replace"):
            system.setattr(os, rename, told(disk.named, getattr(os, rename)))
        yield disk
