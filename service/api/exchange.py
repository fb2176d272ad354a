"""One HTTP exchange: a request and its answer."""

from __future__ import annotations

import itertools
import logging
import re
import secrets
import time
from collections.abc import AsyncIterator, Callable
from typing import Any, Final, TypeAlias

from starlette.types import Message, Receive, Scope, Send

from service.api import problems
from service.api.answer import PART_BYTES, Answer, Piece
from service.api.body import ByteBudget, decompressed
from service.api.deadline import CancelScope, ClientGone, ScopeSweeper
from service.api.problems import Headers
from service.errors import BodyTooLarge, LimitExceeded, Unfit
from service.observe.metrics import Metrics
from service.observe.timing import TRACE, Timing, Trace

WriteWhole: TypeAlias = Callable[[Any, Headers, bytes], bool]
"""Writes an answer of status 200 to the request of a scope, or returns False if ASGI messages must be sent.
The headers include the content length."""
WHOLE: Final = "pushforward.whole"
"""Key of a scope for the `WriteWhole` of its request."""
BODY: Final = "pushforward.body"
"""Key of a scope for the body of its request, if that came whole."""
SURPLUS: Final = "pushforward.surplus"
"""Key of a scope whose connection is one too many: only probes are answered on it."""
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_STREAM_BYTES: Final = 2**24
"""Most bytes that a streamed answer counts for; about as many are in memory at once."""
_WRITTEN_BYTES: Final = 2**21
"""Bytes that a text written while it is sent counts for, beside the arrays that it is written from."""
_MOST_WHOLE_BYTES: Final = 2**24
"""Most bytes of such a text for HTTP/1.0, which knows no chunks: there it is written before it is sent."""
_VERSION_HEADERS: Final = (b"x-pushforward-model", b"x-pushforward-version")
_NO_SNIFFING: Final = (b"x-content-type-options", b"nosniff")
_PAGE_HEADERS: Final = (
    (
        b"content-security-policy",
        b"default-src 'self'; img-src 'self' data: blob:; script-src 'self' 'unsafe-inline'; "
        b"style-src 'self' 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'",
    ),
    (b"referrer-policy", b"no-referrer"),
)
"""Headers of pages; that of the documentation has a script and styles of its own."""
log = logging.getLogger(__name__)


def request_ids() -> Callable[[], str]:
    """Return a function that makes unique ids, also across processes."""
    own, numbers = secrets.token_hex(8), itertools.count(secrets.randbits(32))
    return lambda: f"{own}{next(numbers):016x}"


class Exchange:
    """One HTTP request and its answer: headers, request id, status, and the labels of its metrics."""

    __slots__ = (
        "_added", "_always", "_body_is_read", "_budget", "_expected_bytes", "_headers", "_held_bytes",
        "_metrics", "_send", "_sweeper", "is_head", "is_last",
        "key", "length", "problem", "receive", "request_id", "route", "rows", "scope", "status", "trace",
    )  # fmt: skip

    def __init__(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        metrics: Metrics,
        sweeper: ScopeSweeper,
        fresh_id: Callable[[], str],
        budget: ByteBudget,
    ) -> None:
        self.is_head = scope["method"] == "HEAD"
        if self.is_head:  # answered as GET; the server leaves the body out
            scope = {**scope, "method": "GET"}
        self.scope = scope
        self.receive = receive
        self.route = ""
        self.is_last = False
        """True to close the connection after the answer."""
        self.key = ""
        """The name of the request's key."""
        self.rows = self.length = 0
        self.status = 0
        self.trace: Trace | None = scope.get(TRACE)
        self.problem = problems.problem
        self._send = send
        self._metrics = metrics
        self._sweeper = sweeper
        self._budget = budget
        self._held_bytes = self._expected_bytes = 0
        self._headers: dict[bytes, bytes] = dict(scope["headers"])
        given = self.header(b"x-request-id")
        self.request_id = given if given and _REQUEST_ID.fullmatch(given) else fresh_id()
        self._always = [(b"x-request-id", self.request_id.encode()), _NO_SNIFFING]
        self._added: list[tuple[bytes, bytes]] = []
        self._body_is_read = (
            b"content-length" not in self._headers and b"transfer-encoding" not in self._headers
        )

    def header(self, name: bytes) -> str:
        """Return a request header, or the empty string."""
        value = self._headers.get(name)
        return "" if value is None else value.decode("latin-1")

    def identify(self, headers: Headers) -> None:
        """Add the headers that name the version, also to an error."""
        self._always += headers

    def add_timing(self, timing: Timing) -> None:
        """Add the header `server-timing`, in milliseconds of a lane."""
        queue, compute = timing.queue_seconds * 1e3, timing.compute_seconds * 1e3
        if self.trace is not None:
            self.trace.made = time.time_ns()
        self._added.append((b"server-timing", b"queue;dur=%.3f, compute;dur=%.3f" % (queue, compute)))

    def add_header(self, name: bytes, value: bytes) -> None:
        """Add a header to the answer. An error drops it: errors are never cached."""
        self._added.append((name, value))

    def cancel_scope(self, seconds: float | None, arrival_seconds: float | None = None) -> CancelScope:
        """Return a scope that ends a block once its time is up or the client has gone: see `CancelScope`."""
        return CancelScope(self._sweeper, self.receive, seconds, arrival_seconds)

    def request_scope(self, deadline_seconds: float, idle_seconds: float) -> CancelScope:
        """Return the scope of this request, whose body has `idle_seconds` to arrive.

        It lasts as long as the header `x-request-timeout-seconds` asks for, and at most `deadline_seconds`.

        Raises:
            Unfit: the header is not a positive number.
        """
        seconds = deadline_seconds
        if text := self.header(b"x-request-timeout-seconds"):
            try:
                seconds = 0.0 if "_" in text else min(float(text), deadline_seconds)
            except ValueError:
                seconds = 0.0
            if not seconds > 0:
                raise Unfit("x-request-timeout-seconds takes a positive number of seconds")
        return CancelScope(self._sweeper, self.receive, seconds, min(idle_seconds, seconds))

    async def send(self, message: Message) -> None:
        """Send an ASGI message, with the headers that every answer has."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            own = message.get("headers", ())
            message["headers"] = [*own, *self._always, *self._added]
            if any(name == b"content-type" and value.startswith(b"text/html") for name, value in own):
                given = {name for name, _ in own}  # a page may have a stricter policy of its own
                message["headers"] += [header for header in _PAGE_HEADERS if header[0] not in given]
            if self.is_last or not self._body_is_read:  # the rest of the body is not awaited
                message["headers"].append((b"connection", b"close"))
        else:
            self.length += len(message.get("body", b""))
        await self._send(message)

    def hold(self, size: int) -> None:
        """Take bytes from the budget until `release`. Raises Busy if it is spent."""
        self._budget.take(size, self._held_bytes)
        self._held_bytes += size

    def expect(self, size: int) -> None:
        """Hold the bytes of an answer before it is made, if they are many. Raises Busy as `hold`."""
        if size > PART_BYTES:
            self.hold(size)
            self._expected_bytes = size

    def release(self) -> None:
        """Give back the bytes that the request held."""
        self._budget.used -= self._held_bytes
        self._held_bytes = 0

    async def body(self, limit: int, advice: str = "send less at a time") -> bytes:
        """Return the whole request body, as it was before its content encoding.

        Raises:
            BodyTooLarge: the body or its content-length is over `limit` bytes; the message ends in `advice`.
            Busy: requests and answers in flight hold too many bytes.
            UnsupportedMedia, Malformed: it has another content encoding than gzip or deflate, or is damaged.
            ClientGone: the client disconnected before the body was complete.
        """
        body: bytes | None = self.scope.get(BODY)
        if body is None:
            body = await self._received(limit)
        else:
            self.hold(len(body))
        if body is None or len(body) > limit:
            raise BodyTooLarge(f"the body has over {limit} bytes; {advice}")
        self._body_is_read = True
        encoding = self.header(b"content-encoding").lower()
        if not encoding:
            return body
        whole = await decompressed(body, encoding, limit)
        self.hold(len(whole))
        return whole

    async def _received(self, limit: int) -> bytes | None:
        """Return the body as it was sent, or None once it has over `limit` bytes, or says that it will."""
        length = self._headers.get(b"content-length", b"")
        if length.isdigit() and int(length) > limit:
            return None
        body, more = bytearray(), True
        while more and len(body) <= limit:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            piece = message.get("body", b"")
            self.hold(len(piece))
            body += piece
            more = message.get("more_body", False)
        return bytes(body)

    async def answer(self, answer: Answer) -> None:
        """Send an answer: a small one at once, others in parts, to notice clients that stop reading."""
        body, length = answer.body, answer.length
        if length is None and not isinstance(body, bytes | list) and self.scope["http_version"] == "1.0":
            body = await _whole(body)
            length = sum(map(len, body))
        headers = [*answer.headers, (b"content-type", answer.media_type.encode())]
        if length is not None:
            headers.append((b"content-length", b"%d" % length))
        self.rows, self.length = answer.rows, length or 0
        if isinstance(body, bytes) and self._write_whole(headers, body):
            return
        if isinstance(body, bytes | list):
            held = self.length
        else:
            held = answer.array_bytes + _WRITTEN_BYTES if length is None else min(length, _STREAM_BYTES)
        self.hold(max(0, held - self._expected_bytes))
        await self.send({"type": "http.response.start", "status": 200, "headers": headers})
        if isinstance(body, bytes):
            await self._send_parts(body, last=True)
            return
        if isinstance(body, list):
            body.reverse()
            while body and not self.is_head:
                await self._send_parts(body.pop(), last=False)  # it is freed once it is read
        elif not self.is_head:
            with self.cancel_scope(None):
                async for piece in body:
                    await self._send_parts(piece, last=False)
                    self.length += 0 if length else len(piece)
        await self._send({"type": "http.response.body", "body": b""})

    def _write_whole(self, headers: Headers, body: bytes) -> bool:
        """Write a small answer without ASGI messages, if the server can. Return True if it is written."""
        write: WriteWhole | None = self.scope.get(WHOLE)
        if write is None or len(body) > PART_BYTES or self.is_last or not self._body_is_read:
            return False
        if not write(self.scope, [*headers, *self._always, *self._added], body):
            return False
        self.status = 200
        return True

    async def _send_parts(self, body: Piece, *, last: bool) -> None:
        for start in range(0, len(body), PART_BYTES):
            more = not last or start + PART_BYTES < len(body)
            part = bytes(body[start : start + PART_BYTES])
            await self._send({"type": "http.response.body", "body": part, "more_body": more})

    async def fail(self, error: Exception) -> None:
        """Answer an error; an answer that has begun can only be cut short."""
        if self.status >= 500:  # FastAPI has answered the error, and raised it again
            return
        if reason := problems.rejection_of(error):
            self._metrics.rejected.labels(reason).inc()
        status, headers, body = self.problem(error, self.request_id)
        if self.status:
            log.warning(
                "request %s: the answer was cut short (%s)",
                self.request_id,
                type(error).__name__,
                extra={"request_id": self.request_id},
            )
            self.status = 500
            return
        self.rows, self.length = 0, len(body)
        self._added = [*headers, (b"content-length", b"%d" % len(body))]
        await self.send({"type": "http.response.start", "status": status})
        await self._send({"type": "http.response.body", "body": body})

    def count(self) -> None:
        """Count the answer under its route template, never under the path itself."""
        self.route = self.route or getattr(self.scope.get("route"), "path", "") or "unknown"
        self._metrics.answered(self.route, self.method, self.status)
        if self.trace is not None:
            self.trace.request_id, self.trace.route = self.request_id, self.route
            self.trace.method, self.trace.status = self.method, self.status

    @property
    def method(self) -> str:
        """The HTTP method as the metrics count it: `other` unless it is known."""
        method: str = "HEAD" if self.is_head else self.scope["method"]
        return method if method in ("GET", "HEAD", "POST") else "other"

    def log(self, seconds: float) -> None:
        """Log the answer, which took so many seconds; call it after `count`."""
        version = {name: value.decode() for name, value in self._always if name in _VERSION_HEADERS}
        model, number = (version.get(name, "-") for name in _VERSION_HEADERS)
        context = {
            "request_id": self.request_id, "method": self.method, "route": self.route, "status": self.status,
            "model": model, "version": number, "rows": self.rows, "bytes": self.length,
            "milliseconds": round(seconds * 1e3, 3), "key": self.key or "-",
        }  # fmt: skip
        text = " ".join(f"{name}={value}" for name, value in context.items())
        log.info("answered %s", text, extra=context)


async def _whole(body: AsyncIterator[Piece]) -> list[Piece]:
    """Return all pieces of a body. Raises LimitExceeded if they have too many bytes."""
    pieces: list[Piece] = []
    length = 0
    async for piece in body:
        pieces.append(piece)
        length += len(piece)
        if length > _MOST_WHOLE_BYTES:
            raise LimitExceeded(
                f"by HTTP/1.0 an answer has at most {_MOST_WHOLE_BYTES} bytes of text; ask by HTTP/1.1, for "
                "npy, or for less"
            )
    return pieces
