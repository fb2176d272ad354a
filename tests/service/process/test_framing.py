"""The end of a request: our protocol and a second parser, h11, agree on it, or the request is refused.

So they do once a request's head has come before, and is not parsed again.
"""

from __future__ import annotations

import asyncio
import re
from itertools import pairwise
from typing import Any, NamedTuple

import h11
import uvicorn
from hypothesis import example, given, settings
from hypothesis import strategies as st
from uvicorn.server import ServerState

from service.api.exchange import BODY
from service.process.heads import KnownHeads
from service.process.protocol import bounded_protocol

OFFERS = [
    b"Upgrade: h2c", b"Upgrade: websocket", b"upgrade: h2c, foo/2", b"Connection: Upgrade",
    b"Connection: Upgrade, HTTP2-Settings", b"connection: keep-alive, upgrade", b"Connection: close, Upgrade",
    b"Connection: keep-alive", b"HTTP2-Settings: AAEAAEAAAAIAAAAA",
]  # fmt: skip
LENGTHS = [
    b"Content-Length: 5", b"Content-Length: 0", b"Content-Length: 05", b"Content-Length: 5, 5",
    b"Content-Length: +5", b"Content-Length: 5\r\nContent-Length: 5", b"Content-Length: 3 ",
    b"Content-Length: 5\r\nContent-Length: 7", b"Content-Length:\t4", b"Content-Length:",
    b"Content-Length : 5", b"Content-Length: 9999999999999999999999",
]  # fmt: skip
CODINGS = [
    b"Transfer-Encoding: chunked", b"transfer-encoding: CHUNKED", b"Transfer-Encoding: gzip, chunked",
    b"Transfer-Encoding: chunked, gzip", b"Transfer-Encoding: identity", b"Transfer-Encoding:\tchunked",
    b"Transfer-Encoding: xchunked", b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
    b"Transfer-Encoding: chunked\r\nContent-Length: 5", b"Content-Length: 5\r\nTransfer-Encoding: chunked",
    b"Transfer-Encoding:\r\n chunked", b"Transfer-Encoding : chunked", b"Transfer-Encoding:",
]  # fmt: skip
OTHERS = [
    b"Expect: 100-continue", b"TE: trailers", b"Trailer: x", b"X: y\r\n folded", b"X:", b"X: y\r\n\tz",
    b"Accept: */*", b" X: y",
]  # fmt: skip
BODIES = [
    b"", b"hello", b"5\r\nhello\r\n0\r\n\r\n", b"5;a=b\r\nhello\r\n0\r\n\r\n", b"0\r\n\r\n",
    b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n", b"5\r\nhello\r\n0\r\nX: y\r\n\r\n",
    b"5\r\nhello\r\n0\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n",
    b"5\r\nhello\r\n0\r\nContent-Length: 9\r\n\r\n", b"5\r\nhello\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"5\nhello\n0\n\n", b"x\r\nhello\r\n0\r\n\r\n", b"005\r\nhello\r\n000\r\n\r\n",
    b"5 \r\nhello\r\n0\r\n\r\n", b"-1\r\n\r\n", b"0x5\r\nhello\r\n0\r\n\r\n",
    b"5\r\nhelloGET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n", b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n",
]  # fmt: skip
REQUEST_ID = re.compile(rb"[0-9a-f]{32}")
TURNS = 30
"""The turns of the event loop in which every request that can be answered is answered."""


class Read(NamedTuple):
    """The requests that were read as a whole, and whether more would be."""

    requests: list[tuple[str, str, bytes]]
    refused: bool
    """True if the rest is not read, because it is not HTTP."""


REQUESTS = st.tuples(
    st.sampled_from([b"POST", b"GET", b"PUT"]),
    st.sampled_from([b"1.1", b"1.1", b"1.1", b"1.0"]),
    st.lists(st.sampled_from(OFFERS), max_size=3),
    st.sampled_from([b"", *LENGTHS, *CODINGS]),
    st.sampled_from([b"", *OTHERS]),
    st.booleans(),
    st.sampled_from(BODIES),
)
STREAMS = st.tuples(st.lists(REQUESTS, min_size=1, max_size=3), st.lists(st.floats(0, 1), max_size=4))


def written(requests: list[tuple[Any, ...]], places: list[float]) -> list[bytes]:
    """The bytes of requests on a connection, cut into packets at places from 0 to 1."""
    text = b""
    for number, (method, version, offers, length, other, offers_last, body) in enumerate(requests):
        headers = [length, other, *offers] if offers_last else [*offers, other, length]
        lines = [b"%b /%d HTTP/%b" % (method, number, version), b"Host: x", *filter(None, headers), b"", b""]
        text += b"\r\n".join(lines) + body
    cuts = [0, *sorted(round(place * len(text)) for place in places), len(text)]
    return [text[start:end] for start, end in pairwise(cuts) if start < end]


def read_by_h11(pieces: list[bytes]) -> Read:
    """Read by h11; empty lines before a request, which it refuses, are left out (RFC 9112, 2.2)."""
    requests: list[tuple[str, str, bytes]] = []
    rest = b"".join(pieces)
    while rest := rest.lstrip(b"\r\n"):
        connection = h11.Connection(h11.SERVER)
        connection.receive_data(rest)
        try:
            request = connection.next_event()
            body = b""
            while isinstance(event := connection.next_event(), h11.Data):
                body += event.data
        except h11.RemoteProtocolError:
            return Read(requests, refused=True)
        if not isinstance(request, h11.Request) or not isinstance(event, h11.EndOfMessage):
            break  # more has to come
        requests.append((request.method.decode(), request.target.decode(), body))
        if connection.their_state is h11.MUST_CLOSE:
            return Read(requests, refused=True)
        rest = connection.trailing_data[0]
    return Read(requests, refused=False)


class Answered(NamedTuple):
    """The result of a stream by our protocol: the requests that reached the app, and the client's answers."""

    requests: list[tuple[str, str, bytes]]
    headers: list[list[tuple[bytes, bytes]]]
    at_once: int
    """The most requests that the app had to answer at a time."""
    answers: bytes
    closed: bool


async def read_by_ours(pieces: list[bytes], heads: KnownHeads) -> Answered:
    """Send the pieces, one packet each, over a real connection to our protocol before a small app."""
    requests: list[tuple[str, str, bytes]] = []
    headers: list[list[tuple[bytes, bytes]]] = []
    running = at_once = received = 0
    lost = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body, more = body + message["body"], message["more_body"]
        assert scope.get(BODY, body) == body
        requests.append((scope["method"], scope["path"], body))
        headers.append(scope["headers"])
        nonlocal running, at_once
        running += 1
        at_once = max(at_once, running)
        for _ in range(3):  # in which the next request can come
            await asyncio.sleep(0)
        running -= 1
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    class Counting(bounded_protocol(2**15, 30)):  # type: ignore[misc]
        _heads = heads

        def data_received(self, data: bytes) -> None:
            nonlocal received
            received += len(data)
            super().data_received(data)

        def connection_lost(self, exc: Exception | None) -> None:
            lost.set()
            super().connection_lost(exc)

    config = uvicorn.Config(app, ws="none", lifespan="off", log_config=None, server_header=False)
    config.load()
    state = ServerState()
    server = await asyncio.get_running_loop().create_server(
        lambda: Counting(config, state, {}), "127.0.0.1", 0
    )
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    answered = asyncio.create_task(reader.read())
    sent = 0
    for piece in pieces:
        if not lost.is_set():
            writer.write(piece)
            sent += len(piece)
        while received < sent and not lost.is_set():  # noqa: ASYNC110 - a packet may come in parts
            await asyncio.sleep(0)
    for _ in range(TURNS):
        await asyncio.sleep(0)
    closed = lost.is_set() or answered.done()  # after the end of its answers, nothing is taken
    if not lost.is_set():
        writer.write_eof()
    await lost.wait()
    try:
        answers = await answered
    except ConnectionResetError:
        answers = b""
    writer.close()
    server.close()
    if state.tasks:
        await asyncio.wait(state.tasks)
    return Answered(requests, headers, at_once, REQUEST_ID.sub(b"an id", answers), closed)


PLAIN: tuple[Any, ...] = (b"POST", b"1.1", [], b"Content-Length: 5", b"Accept: */*", True, b"hello")


@settings(max_examples=250, derandomize=True)
@given(STREAMS)
@example(([PLAIN, PLAIN, PLAIN], [1 / 3, 2 / 3]))
def test_every_request_ends_where_a_second_parser_ends_it_or_is_refused(
    stream: tuple[list[tuple[Any, ...]], list[float]],
) -> None:
    pieces, heads = written(*stream), KnownHeads()
    expected, ours = read_by_h11(pieces), asyncio.run(read_by_ours(pieces, heads))
    assert ours.requests == expected.requests[: len(ours.requests)], "another request than was sent"
    assert ours.answers.count(b"HTTP/1.1 200") <= len(ours.requests)
    assert ours.at_once <= 1
    if expected.refused or len(ours.requests) < len(expected.requests):
        assert ours.closed
    assert asyncio.run(read_by_ours(pieces, heads)) == ours, "read otherwise where its heads are known"


def test_the_rest_of_a_head_that_came_in_packets_is_no_head() -> None:
    heads, rest = KnownHeads(), b"t: x\r\n\r\n"
    assert len(asyncio.run(read_by_ours([b"GET / HTTP/1.1\r\nHos", rest], heads)).requests) == 1
    assert asyncio.run(read_by_ours([rest], heads)).requests == []
