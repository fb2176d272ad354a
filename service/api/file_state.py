"""The state of files that are read again once they have changed."""

from __future__ import annotations

from pathlib import Path


def fingerprint(path: Path) -> tuple[int, ...] | None:
    """Return values that change with a file, with its permissions and with the target of a link.

    None if it is not there.
    """
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_ctime_ns, status.st_size
