"""Heads of requests that came before, and what the parser made of them.

A client sends one head, byte for byte, with request after request. The parser reads equal bytes alike, so a
head that it has read once need not be read again; that saves a tenth of the time of a small request.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from uvicorn._types import HTTPScope

_END: Final = b"\r\n\r\n"
_MOST_HEADS: Final = 256
_MOST_HEAD_BYTES: Final = 2**11
_UNREPEATED: Final = frozenset((b"traceparent", b"x-request-id"))
"""A head with one of these headers comes once."""
_MORE_THAN_BODY: Final = frozenset((b"expect", b"transfer-encoding"))
"""With one of these headers a request is more than its head and the bytes of its body."""

_OF_HEAD: Final = (
    "type", "asgi", "http_version", "root_path", "method", "path", "raw_path", "query_string", "headers",
)  # fmt: skip
"""The entries of an ASGI scope that depend on the head alone."""


class KnownHead(NamedTuple):
    """A head as the parser read it."""

    scope: dict[str, Any]
    body_bytes: int


class KnownHeads:
    """The heads of whole requests of HTTP/1.1 after which the connection stays open, at most 256 of them."""

    def __init__(self) -> None:
        self._heads: dict[bytes, KnownHead] = {}

    def scope_and_body(self, data: bytes) -> tuple[dict[str, Any], bytes] | None:
        """Return the part of a scope that `data` began with before, and its body; None unless both are whole.

        The scope is the caller's own.
        """
        end = data.find(_END) + len(_END)
        head = self._heads.get(data[:end])
        if head is None or len(data) - end != head.body_bytes:
            return None
        return {**head.scope, "headers": head.scope["headers"].copy()}, data[end:]

    def learn(self, data: bytes, scope: HTTPScope) -> bool:
        """Return True if `data` was one request and nothing else; then its head is known from now on.

        The parser has made `scope` of the bytes, found the end of the request in them, and closes nothing.
        """
        end = data.find(_END) + len(_END)
        headers = dict(scope["headers"])
        body_bytes = int(headers.get(b"content-length", 0))
        if len(data) - end != body_bytes or not _MORE_THAN_BODY.isdisjoint(headers):
            return False
        if end <= _MOST_HEAD_BYTES and _UNREPEATED.isdisjoint(headers):
            if len(self._heads) >= _MOST_HEADS:
                self._heads.clear()
            self._heads[data[:end]] = KnownHead({name: scope[name] for name in _OF_HEAD}, body_bytes)
        return True
