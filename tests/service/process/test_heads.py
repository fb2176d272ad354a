"""Heads that came before: which are known, and how many."""

from __future__ import annotations

from typing import Any

import pytest

from service.process.heads import KnownHeads


def request(path: str, *headers: tuple[bytes, bytes], body: bytes = b"") -> tuple[bytes, Any]:
    """The bytes of a request, and the scope that the parser makes of them."""
    lines = [f"POST {path} HTTP/1.1".encode(), *map(b": ".join, headers), b"", body]
    scope = dict.fromkeys(("type", "asgi", "http_version", "root_path", "method", "raw_path", "query_string"))
    return b"\r\n".join(lines), {**scope, "path": path, "headers": list(headers), "client": ("", 1)}


def test_a_known_head_has_its_scope_without_the_connection_and_the_body_that_came_now() -> None:
    heads, length = KnownHeads(), (b"content-length", b"5")
    assert heads.learn(*request("/a", length, body=b"first"))
    scope, body = heads.scope_and_body(request("/a", length, body=b"later")[0]) or ({}, b"")
    assert (scope["path"], scope["headers"], body) == ("/a", [length], b"later")
    assert "client" not in scope
    scope["headers"].clear()
    scope["path"] = "/changed"
    again, _ = heads.scope_and_body(request("/a", length, body=b"third")[0]) or ({}, b"")
    assert (again["path"], again["headers"]) == ("/a", [length])


@pytest.mark.parametrize("came", [b"", b"firs", b"first and more"])
def test_a_request_that_is_not_there_as_a_whole_and_alone_is_not_known(came: bytes) -> None:
    heads, length = KnownHeads(), (b"content-length", b"5")
    assert not heads.learn(*request("/a", length, body=came))
    assert heads.learn(*request("/a", length, body=b"first"))
    assert heads.scope_and_body(request("/a", length, body=came)[0]) is None


def test_a_head_that_comes_once_is_not_kept() -> None:
    heads = KnownHeads()
    long = (b"x-long", b"x" * 2**11)
    for header in ((b"x-request-id", b"1"), (b"traceparent", b"00-1-1-00"), long):
        data, scope = request("/a", header)
        assert heads.learn(data, scope), "the next request may be known"
        assert heads.scope_and_body(data) is None


def test_the_number_of_known_heads_is_bounded() -> None:
    heads = KnownHeads()
    requests = [request(f"/{number}") for number in range(2_000)]
    for data, scope in requests:
        heads.learn(data, scope)
    known = [data for data, _ in requests if heads.scope_and_body(data) is not None]
    assert known[-1] == requests[-1][0]
    assert len(known) <= 256
