"""Finds heads of requests that a proxy in front of the service may read differently."""

from __future__ import annotations

from typing import Final

from service.api.problems import Headers

_SINGLE: Final = frozenset(
    (b"host", b"authorization", b"x-api-key", b"content-type", b"content-encoding",
     b"x-request-timeout-seconds")
)  # fmt: skip
"""Headers that a request has once at most: of several, a proxy may have checked another one than is read."""


def is_ambiguous(headers: Headers, http_version: str) -> bool:
    """Return True if a head names no host, repeats a header of which one is read, or has a strange coding.

    With another transfer coding than chunks alone, the parser would hand on a body that is still coded.
    """
    names = dict(headers)
    if b"host" not in names and http_version != "1.0":
        return True
    if len(names) < len(headers):
        repeated = [name for name, _ in headers]
        if any(repeated.count(name) > 1 for name in _SINGLE):
            return True
    if b"transfer-encoding" not in names:
        return False
    return [value.lower() for name, value in headers if name == b"transfer-encoding"] != [b"chunked"]
