"""API keys, read from a file; only their digests are kept in memory."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import logging
import re
from pathlib import Path
from typing import Final, Literal, NamedTuple, TypeAlias, get_args

from service.api.file_state import fingerprint
from service.errors import InvalidKeys, KeyMissing, KeyUnknown, ScopeMissing
from service.format.versions import read_plain_file
from service.observe.metrics import UNNAMED_KEY, Metrics

Scope: TypeAlias = Literal["infer", "control", "metrics"]
"""The rights of a key: `infer` allows everything but loading and unloading models, which is `control`, and
reading metrics that are not public, which is `metrics`."""
_CHECK_SECONDS: Final = 5.0
"""Interval between looks at the file: a removed key is valid for at most this long."""
_MOST_BYTES: Final = 2**24
_KEY: Final = re.compile(r"[\x21-\x7e]{16,256}")
_DIGEST: Final = re.compile(r"sha256:([0-9a-f]{64})")
_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,40}")
_BEARER: Final = "bearer "

log = logging.getLogger(__name__)


class Key(NamedTuple):
    """A key as the file describes it, without the key itself."""

    name: str
    """The name that logs and metrics have; `UNNAMED_KEY` if the file gives none."""
    scopes: frozenset[Scope]


class Keys:
    """The keys in a file, one per line: KEY, or KEY NAME, or KEY NAME SCOPE,SCOPE.

    In place of a key its digest may stand, as sha256:HEX. A key without scopes has all. Empty lines and lines
    that begin with # are ignored.

    The file is read again once it has changed, so keys can be replaced while the service runs. If it cannot
    be read then, the earlier keys stay valid. A last line without its end may still be written: the file is
    then read once two looks have found the same.

    Args:
        path: Path of the file.
        metrics: Tell whether the file is refused as it is.

    Raises:
        InvalidKeys: the file cannot be read, has no key, or has a key that no client could send.
    """

    def __init__(self, path: Path, metrics: Metrics) -> None:
        self._path = path
        self._refused = metrics.keys_refused
        self._seen = fingerprint(path)
        self._keys = _read(path)
        self._unended = self._seen
        """The state of the file that is read although its last line has no end."""

    def check(self, authorization: str, api_key: str, scope: Scope = "infer") -> Key:
        """Return the key that one of these two headers of a request holds, if it allows the scope.

        Raises:
            KeyMissing: neither holds a key.
            KeyUnknown: the key is not in the file.
            ScopeMissing: the key does not allow that scope.
        """
        scheme, key = authorization[: len(_BEARER)], authorization[len(_BEARER) :]
        given = key.strip() if scheme.lower() == _BEARER else api_key
        if not given:
            raise KeyMissing(
                "a key is needed: send it as `Authorization: Bearer KEY` or as `x-api-key: KEY`; whoever "
                "runs the service gives keys out"
            )
        # the time of comparing digests says nothing about the keys
        known = self._keys.get(_digest(given))
        if known is None:
            raise KeyUnknown("the key is not, or no longer, taken; whoever runs the service gives keys out")
        if scope not in known.scopes:
            raise ScopeMissing(f"the key lacks the scope {scope}; whoever runs the service gives keys out")
        return known

    async def follow(self) -> None:
        """Look at the file, and read it again once it has changed, until cancelled.

        It is read in a thread: the disk of a file that hangs must not hold all requests.
        """
        while True:
            await asyncio.sleep(_CHECK_SECONDS)
            await asyncio.to_thread(self.reload_if_changed)

    def reload_if_changed(self) -> None:
        """Read the file if it has changed since the last look."""
        try:
            state = fingerprint(self._path)
            if state == self._seen:
                return
            if state != self._unended and not _ends_with_a_line(self._path):
                self._unended = state
                return
            self._seen = state
            self._keys = _read(self._path)
        except InvalidKeys as error:
            self._refused.set(1)
            log.error("%s; the keys read before stay", error.detail)  # noqa: TRY400
        else:
            self._refused.set(0)
            log.info("%d keys were read anew", len(self._keys))


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()


def _ends_with_a_line(path: Path) -> bool:
    """Return False for a file that ends amid a line; True if it cannot be read, which `_read` reports."""
    try:
        return _content(path)[-1:] in (b"\n", b"")
    except OSError:
        return True


def _content(path: Path) -> bytes:
    """Return the bytes of a file of keys. Raises OSError, also for one that is no plain file or too large."""
    content = read_plain_file(path, _MOST_BYTES + 1)
    if len(content) > _MOST_BYTES:
        raise OSError(errno.EFBIG, f"over {_MOST_BYTES} bytes")
    return content


def _read(path: Path) -> dict[bytes, Key]:
    try:
        lines = [line.strip() for line in _content(path).decode("ascii").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "other characters than ASCII"
        raise InvalidKeys(f"the file of keys {path.name} cannot be read ({reason})") from error
    keys: dict[bytes, Key] = {}
    for number, line in enumerate(lines, start=1):
        if line and line[0] != "#":
            keys.update([_parsed(number, line.split(), path.name)])
    if not keys:
        raise InvalidKeys(f"{path.name} holds no key; leave the setting out to answer everybody")
    return keys


def _parsed(number: int, words: list[str], file: str) -> tuple[bytes, Key]:
    """Return the digest of a line's key, and the key."""
    key, name, scopes = (*words, *[UNNAMED_KEY, ",".join(get_args(Scope))][len(words) - 1 :])[:3]
    if not _KEY.fullmatch(key):
        raise InvalidKeys(
            f"line {number} of {file} is no key: 16 to 256 visible ASCII characters, without spaces"
        )
    if len(words) > 3 or not _NAME.fullmatch(name):
        raise InvalidKeys(
            f"line {number} of {file} is not KEY, KEY NAME or KEY NAME SCOPE,SCOPE; names are up to "
            "40 letters, digits, dots, dashes and underscores"
        )
    if not set(scopes.split(",")) <= set(get_args(Scope)):
        raise InvalidKeys(f"line {number} of {file} has other scopes than {', '.join(get_args(Scope))}")
    hashed = _DIGEST.fullmatch(key)
    digest = bytes.fromhex(hashed[1]) if hashed else _digest(key)
    return digest, Key(name, frozenset(scopes.split(",")))  # type: ignore[arg-type]  # checked above
