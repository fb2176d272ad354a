"""Folders of copies of large data: the least recently used ones are deleted for new ones."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from training.data.dataset import DataError

MOST_BYTES: Final = 2**35
"""Most bytes of the copies in one folder, unless the one in use is larger: 32 GiB."""
STAGING: Final = ".copying-"
"""The beginning of the names of folders in which copies are made."""
_NAME: Final = re.compile(rf"[0-9a-f]{{24}}|{re.escape(STAGING)}.+")


def default_cache(kind: str) -> Path:
    """Return the folder of copies of a kind of data, unless a caller names another."""
    return Path.home() / ".cache" / "pushforward" / kind


def place_of(copy: list[Any], kept: Path) -> Path:
    """Return the folder in `kept` of a copy that these facts, which JSON can hold, tell from all others."""
    return kept / hashlib.sha256(json.dumps(copy).encode()).hexdigest()[:24]


@contextlib.contextmanager
def written(copy: Path, failure: str) -> Iterator[Path]:
    """Yield a folder to write a copy into, which appears as `copy` once the block has ended.

    Raises:
        DataError: It cannot be written; the message begins with `failure`.
    """
    staging = None
    try:
        copy.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=STAGING, dir=copy.parent))
        yield staging
        staging.rename(copy)
    except OSError as error:
        if not copy.is_dir():  # which another process may have written meanwhile
            way_out = "make room there, or set HOME to a folder that can be written"
            raise DataError(f"{failure} {copy}: {error}; {way_out}") from error
    finally:
        if staging is not None:
            shutil.rmtree(staging, ignore_errors=True)


def use(copy: Path, most_bytes: int = MOST_BYTES) -> None:
    """Note that a copy is in use, and remove others beside it, the least lately used first.

    They are removed until all together take at most `most_bytes`, and so are the halves that killed processes
    have left. A process that has opened a copy can read it to its end nevertheless.
    """
    os.utime(copy)
    used = sorted(_uses(copy.parent), reverse=True)
    room = most_bytes - sum(size for _, size, folder in used if folder == copy)
    for _, size, folder in used:
        if folder == copy:
            continue
        room -= size
        if room < 0:
            shutil.rmtree(folder, ignore_errors=True)


def _uses(parent: Path) -> Iterator[tuple[int, int, Path]]:
    """Yield the time of last use, the bytes and the path of each copy, also of halves that may be growing."""
    for folder in parent.iterdir():
        if not _NAME.fullmatch(folder.name):
            continue
        with contextlib.suppress(FileNotFoundError):  # another process removes copies too
            facts = [path.stat() for path in (folder, *folder.iterdir())]
            yield max(each.st_mtime_ns for each in facts), sum(each.st_size for each in facts[1:]), folder
