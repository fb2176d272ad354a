"""One HTTP request and its answer: its headers, id and status."""

from __future__ import annotations

import itertools
import logging
import math
import operator
import re
import secrets
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias

from starlette.types import Message, Receive, Scope, Send

from service.api import problems
from service.api.answer import Answer
from service.api.deadline import ClientGone, Watch, Watchman
from service.api.keys import Keys
from service.errors import BodyTooLarge, LimitExceeded, Unfit
from service.observe.metrics import Metrics
from service.observe.timing import TRACE, Timing, Trace

Headers: TypeAlias = list[tuple[bytes, bytes]]
WriteWhole: TypeAlias = Callable[[Any, Headers, bytes], bool]
"""Writes an answer of status 200 to the request of a scope; False where ASGI messages have to. The headers
hold the answer's length."""
WHOLE: Final = "pushforward.whole"
"""Where a scope holds the `WriteWhole` of its request."""
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
PART_BYTES: Final = 2**18
"""Answers are sent in parts of so many bytes; a reader that takes none within `idle_seconds` is given up."""
_NO_SNIFFING: Final = (b"x-content-type-options", b"nosniff")
ENVELOPE_BYTES: Final = 2**16
"""Room for everything in a body but its numbers."""
READ_ON_LOOP_BYTES: Final = 2**18
"""Longer bodies are read in a thread."""
_BESIDE_NUMBERS: Final = 2**10
"""Most lists, objects, commas or strings in a JSON text beside those of its rows; most bytes of a string."""
_STRING: Final = re.compile(rb'"(?:[^"\\]|\\.){0,%d}+"' % _BESIDE_NUMBERS, re.DOTALL)
log = logging.getLogger(__name__)


def check_json(text: bytes, rows: int, row: Sequence[int]) -> None:
    """Refuse a JSON text that holds more than so many rows of a shape, before objects are made of it.

    An empty list or object has two bytes in a text, and a hundred times as many once it is parsed.

    Raises:
        LimitExceeded: it holds more lists, objects, numbers or strings.
    """
    if len(text) <= ENVELOPE_BYTES:
        return
    lists = rows * sum(itertools.accumulate(row[:-1], operator.mul, initial=1))
    most = {b"[": lists, b"{": 0, b",": rows * math.prod(row)}
    fits = all(text.count(sign) <= count + _BESIDE_NUMBERS for sign, count in most.items())
    strings, place = 0, text.find(b'"')
    while fits and place >= 0:
        string, strings = _STRING.match(text, place), strings + 1
        fits = string is not None and strings <= _BESIDE_NUMBERS
        place = text.find(b'"', string.end()) if string is not None else -1
    if not fits:
        raise LimitExceeded(
            f"the JSON holds more than {rows} rows of this model; send fewer, or send them as bytes"
        )


def request_ids() -> Callable[[], str]:
    """What makes ids that no other process and no other call of this gives."""
    own, numbers = secrets.token_hex(8), itertools.count(secrets.randbits(32))
    return lambda: f"{own}{next(numbers):016x}"


class Exchange:
    """One HTTP request and its answer: headers, request id, status, and what the metrics count."""

    __slots__ = (
        "_added", "_always", "_body_is_read", "_headers", "_metrics", "_send", "_watchman",
        "problem", "receive", "request_id", "route", "scope", "status", "trace",
    )  # fmt: skip

    def __init__(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        metrics: Metrics,
        watchman: Watchman,
        fresh_id: Callable[[], str],
    ) -> None:
        self.scope = scope
        self.receive = receive
        self.route = ""
        self.status = 0
        self.trace: Trace | None = scope.get(TRACE)
        self.problem = problems.problem
        self._send = send
        self._metrics = metrics
        self._watchman = watchman
        self._headers: dict[bytes, bytes] = dict(scope["headers"])
        given = self.header(b"x-request-id")
        self.request_id = given if given and _REQUEST_ID.fullmatch(given) else fresh_id()
        self._always: problems.Headers = [(b"x-request-id", self.request_id.encode()), _NO_SNIFFING]
        self._added: problems.Headers = []
        self._body_is_read = (
            b"content-length" not in self._headers and b"transfer-encoding" not in self._headers
        )

    def header(self, name: bytes) -> str:
        """A request header, or the empty string."""
        value = self._headers.get(name)
        return "" if value is None else value.decode("latin-1")

    def check_key(self, keys: Keys) -> None:
        """Raises KeyMissing or KeyUnknown unless the request brings a key that is taken."""
        keys.check(self.header(b"authorization"), self.header(b"x-api-key"))

    def deadline_seconds(self, longest: float) -> float:
        """Seconds the request may take in all: as many as it asks for, and never more than `longest`.

        Raises:
            Unfit: it asks for something else.
        """
        text = self.header(b"x-request-timeout-seconds")
        if not text:
            return longest
        try:
            seconds = float(text)
        except ValueError:
            seconds = 0.0
        if not seconds > 0:
            raise Unfit("x-request-timeout-seconds takes a positive number of seconds")
        return min(seconds, longest)

    def identify(self, headers: problems.Headers) -> None:
        """Names the version that answers, in whatever becomes the answer."""
        self._always += headers

    def time(self, timing: Timing) -> None:
        """Adds the header that tells where the time went, in milliseconds of a lane."""
        queue, compute = timing.queue_seconds * 1e3, timing.compute_seconds * 1e3
        if self.trace is not None:
            self.trace.made = time.time_ns()
        self._added.append((b"server-timing", b"queue;dur=%.3f, compute;dur=%.3f" % (queue, compute)))

    def add(self, name: bytes, value: bytes) -> None:
        """Adds a header to the answer, unless that becomes an error's: a problem is never cached."""
        self._added.append((name, value))

    def watch(self, seconds: float | None, arrival_seconds: float | None = None) -> Watch:
        """What ends a block of this request once its time is up or its client has gone: see `Watch`."""
        return Watch(self._watchman, self.receive, seconds, arrival_seconds)

    async def send(self, message: Message) -> None:
        """Sends a message of the app's own answers, with the headers every answer has."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = [*message.get("headers", ()), *self._always, *self._added]
            if not self._body_is_read:
                message["headers"].append((b"connection", b"close"))  # the rest of it is not waited for
        await self._send(message)

    async def body(self, limit: int) -> bytes:
        """The whole request body.

        Raises:
            BodyTooLarge: it has more than `limit` bytes, by its own account or in truth.
            ClientGone: the client went before it was whole.
        """
        length = self._headers.get(b"content-length", b"")
        if length.isdigit() and int(length) > limit:
            raise _too_large(limit)
        body, more = await self._piece()
        if more:
            whole = bytearray(body)
            while more and len(whole) <= limit:
                piece, more = await self._piece()
                whole += piece
            body = bytes(whole)
        if len(body) > limit:
            raise _too_large(limit)
        self._body_is_read = True
        return body

    async def _piece(self) -> tuple[bytes, bool]:
        """The next piece of the body, and whether more follow."""
        message = await self.receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        return message.get("body", b""), message.get("more_body", False)

    async def answer(self, answer: Answer) -> None:
        """Sends an operation's answer: at once if it is small, else in parts that show whether it is read."""
        headers = [
            *answer.headers,
            (b"content-type", answer.media_type.encode()),
            (b"content-length", b"%d" % answer.length),
        ]
        whole = answer.body if isinstance(answer.body, bytes) else None
        if whole is not None and self._wrote(headers, whole):
            return
        await self.send({"type": "http.response.start", "status": 200, "headers": headers})
        if whole is not None:
            await self._send_parts(whole, last=True)
            return
        assert not isinstance(answer.body, bytes)
        with self.watch(None):
            async for piece in answer.body:
                await self._send_parts(piece, last=False)
        await self._send({"type": "http.response.body", "body": b""})

    def _wrote(self, headers: problems.Headers, body: bytes) -> bool:
        """Writes a small answer without any message, where the server can."""
        write: WriteWhole | None = self.scope.get(WHOLE)
        if write is None or len(body) > PART_BYTES or not self._body_is_read:
            return False
        if not write(self.scope, [*headers, *self._always, *self._added], body):
            return False
        self.status = 200
        return True

    async def _send_parts(self, body: bytes, *, last: bool) -> None:
        for start in range(0, len(body), PART_BYTES):
            more = not last or start + PART_BYTES < len(body)
            part = body[start : start + PART_BYTES] if len(body) > PART_BYTES else body
            await self._send({"type": "http.response.body", "body": part, "more_body": more})

    async def fail(self, error: Exception) -> None:
        """Answers an error; once an answer has begun it can only be cut short."""
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
        self._added = [*headers, (b"content-length", b"%d" % len(body))]
        await self.send({"type": "http.response.start", "status": status})
        await self._send({"type": "http.response.body", "body": body})

    def count(self) -> None:
        """Counts the answer under its route template, never under the path that came."""
        self.route = self.route or getattr(self.scope.get("route"), "path", "") or "unknown"
        self._metrics.answered(self.route, self.method, self.status)
        if self.trace is not None:
            self.trace.request_id, self.trace.route = self.request_id, self.route
            self.trace.method, self.trace.status = self.method, self.status

    @property
    def method(self) -> str:
        """The request's, if it is a known one."""
        return self.scope["method"] if self.scope["method"] in ("GET", "HEAD", "POST") else "other"

    def log(self) -> None:
        """Logs the answer, once it is counted."""
        context = {
            "request_id": self.request_id, "method": self.method, "route": self.route, "status": self.status,
        }  # fmt: skip
        log.debug("request %s: %s %s %d", *context.values(), extra=context)


def _too_large(limit: int) -> BodyTooLarge:
    return BodyTooLarge(f"such a body has at most {limit} bytes here")
