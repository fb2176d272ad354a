"""API keys, read from a file; only their digests are kept in memory."""

from __future__ import annotations

import hashlib
import logging
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from service.errors import InvalidKeys, KeyMissing, KeyUnknown

_CHECK_SECONDS: Final = 5.0
"""Interval between checks of the file: a removed key is valid for at most this long."""
_KEY: Final = re.compile(r"[\x21-\x7e]{16,256}")
_BEARER: Final = "bearer "

log = logging.getLogger(__name__)


class Keys:
    """The keys in a file, one per line; empty lines and lines that begin with # are ignored.

    The file is read again once it has changed, so keys can be replaced while the service runs. If it cannot
    be read then, the earlier keys stay valid.

    Args:
        path: Path of the file.
        clock: Returns seconds; for the interval between checks of the file.

    Raises:
        InvalidKeys: the file cannot be read, has no key, or has a key that no client could send.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._clock = clock
        self._seen = _fingerprint(path)
        self._digests = _read(path)
        self._checked_at = clock()

    def check(self, authorization: str, api_key: str) -> None:
        """Check that one of these two headers of a request holds a valid key.

        Raises:
            KeyMissing: neither holds a key.
            KeyUnknown: the key is not in the file.
        """
        scheme, key = authorization[: len(_BEARER)], authorization[len(_BEARER) :]
        given = key.strip() if scheme.lower() == _BEARER else api_key
        if not given:
            raise KeyMissing(
                "a key is needed: send it as `Authorization: Bearer KEY` or as `x-api-key: KEY`; whoever "
                "runs the service gives keys out"
            )
        self._reload_if_changed()
        # the time of comparing digests says nothing about the keys
        if _digest(given) not in self._digests:
            raise KeyUnknown("the key is not, or no longer, one of those that are taken")

    def _reload_if_changed(self) -> None:
        now = self._clock()
        if now - self._checked_at < _CHECK_SECONDS:
            return
        self._checked_at = now
        try:
            state = _fingerprint(self._path)
            if state == self._seen:
                return
            self._seen = state
            self._digests = _read(self._path)
        except InvalidKeys as error:
            log.error("%s; the keys read before stay", error.detail)  # noqa: TRY400
        else:
            log.info("%d keys were read anew", len(self._digests))


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()


def _fingerprint(path: Path) -> tuple[int, int, int] | None:
    """Return values that change with the file; None if it is not there, which `_read` reports."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size


def _read(path: Path) -> frozenset[bytes]:
    try:
        lines = [line.strip() for line in path.read_text(encoding="ascii").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidKeys(f"the file of keys {path.name} cannot be read ({type(error).__name__})") from error
    keys = [(number, line) for number, line in enumerate(lines, start=1) if line and line[0] != "#"]
    for number, key in keys:
        if not _KEY.fullmatch(key):
            raise InvalidKeys(
                f"line {number} of {path.name} is no key: 16 to 256 visible ASCII characters, without spaces"
            )
    if not keys:
        raise InvalidKeys(f"{path.name} holds no key; leave the setting out to answer everybody")
    return frozenset(_digest(key) for _, key in keys)
