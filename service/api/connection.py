"""One HTTP connection's request and answer: its headers, id and status, and its time being up."""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
from typing import Final

from starlette.types import Message, Receive, Scope, Send

from service.api import problems
from service.api.exchange import Answer
from service.errors import BodyTooLarge, DeadlineExceeded, ServiceError
from service.metrics import Metrics
from service.served import Served
from service.turns import Timing

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
PART_BYTES: Final = 2**18
"""Answers are sent in parts of so many bytes; a reader that takes none within `idle_seconds` is given up."""
_PATIENCE_SECONDS = 0.05
"""Requests that take longer are watched for a client that goes away."""


log = logging.getLogger(__name__)


class ClientGone(Exception):
    """The client closed its connection before its answer was ready."""


class Connection:
    """One HTTP request and its answer: headers, request id, status, and what the metrics count."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, metrics: Metrics) -> None:
        self.scope = scope
        self.receive = receive
        self.route = ""
        self.status = 0
        self.loop = asyncio.get_running_loop()
        self.task = _task_of(self.loop)
        self._send = send
        self._metrics = metrics
        self._headers: dict[bytes, bytes] = dict(scope["headers"])
        given = self.header(b"x-request-id")
        self.request_id = given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(16)
        self._always: problems.Headers = [
            (b"x-request-id", self.request_id.encode()),
            (b"x-content-type-options", b"nosniff"),
        ]
        self._added: problems.Headers = []
        self._body_is_read = not {b"content-length", b"transfer-encoding"} & self._headers.keys()

    def header(self, name: bytes) -> str:
        """A request header, or the empty string."""
        return self._headers.get(name, b"").decode("latin-1")

    def identify(self, served: Served) -> None:
        """Names the version that answers, in whatever becomes the answer."""
        manifest = served.manifest
        self._always += [
            (b"x-pushforward-model", manifest.name.encode()),
            (b"x-pushforward-version", str(manifest.version).encode()),
        ]

    def time(self, timing: Timing) -> None:
        """Adds the header that tells where the time went, in milliseconds of a lane."""
        queue, compute = timing.queue_seconds * 1e3, timing.compute_seconds * 1e3
        self.add("server-timing", f"queue;dur={queue:.3f}, compute;dur={compute:.3f}")

    def add(self, name: str, value: str) -> None:
        """Adds a header to the answer, unless that becomes an error's: a problem is never cached."""
        self._added.append((name.encode(), value.encode()))

    async def send(self, message: Message) -> None:
        """Sends a message of the app's own answers, with the headers every answer has."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = [*message.get("headers", ()), *self._always, *self._added]
            if not self._body_is_read:
                message["headers"].append((b"connection", b"close"))  # the rest of it is not waited for
        await self._send(message)

    async def body(self, limit: int, seconds: float) -> bytes:
        """The whole request body.

        Raises:
            BodyTooLarge: it has more than `limit` bytes, by its own account or in truth.
            DeadlineExceeded: it did not arrive within `seconds`.
            ClientGone: the client went before it was whole.
        """
        too_large = BodyTooLarge(f"such a body has at most {limit} bytes here")
        length = self.header(b"content-length")
        if length.isdecimal() and int(length) > limit:
            raise too_large
        body = bytearray()
        with Watch(self, seconds, listens=False):
            while True:
                message = await self.receive()
                if message["type"] == "http.disconnect":
                    raise ClientGone
                body += message.get("body", b"")
                if len(body) > limit:
                    raise too_large
                if not message.get("more_body", False):
                    break
        self._body_is_read = True
        return bytes(body)

    async def answer(self, answer: Answer) -> None:
        """Sends an operation's answer, in parts that show whether its reader still reads."""
        headers = [(name.encode(), value.encode()) for name, value in answer.headers]
        headers.append((b"content-type", answer.media_type.encode()))
        headers.append((b"content-length", str(answer.length).encode()))
        await self.send({"type": "http.response.start", "status": 200, "headers": headers})
        if isinstance(answer.body, bytes):
            await self._send_parts(answer.body, last=True)
            return
        with Watch(self, None):
            async for piece in answer.body:
                await self._send_parts(piece, last=False)
        await self._send({"type": "http.response.body", "body": b""})

    async def _send_parts(self, body: bytes, *, last: bool) -> None:
        for start in range(0, len(body), PART_BYTES):
            more = not last or start + PART_BYTES < len(body)
            part = body[start : start + PART_BYTES] if len(body) > PART_BYTES else body
            await self._send({"type": "http.response.body", "body": part, "more_body": more})

    async def fail(self, error: Exception) -> None:
        """Answers an error; once an answer has begun it can only be cut short."""
        if isinstance(error, ServiceError):
            for kind, reason in problems.REJECTION_REASONS.items():
                if isinstance(error, kind):
                    self._metrics.rejected.labels(reason).inc()
        status, headers, body = problems.problem(error, self.request_id)
        if self.status:
            log.warning("request %s: the answer was cut short (%s)", self.request_id, type(error).__name__)
            self.status = 500
            return
        self._added = [*headers, (b"content-length", str(len(body)).encode())]
        await self.send({"type": "http.response.start", "status": status})
        await self._send({"type": "http.response.body", "body": body})

    def count(self) -> None:
        """Counts the answer under its route template, never under the path that came."""
        route = self.route or getattr(self.scope.get("route"), "path", "") or "unknown"
        method = self.scope["method"] if self.scope["method"] in ("GET", "HEAD", "POST") else "other"
        self._metrics.answered(route, method, self.status)


def _task_of(loop: asyncio.AbstractEventLoop) -> asyncio.Task[object]:
    task = asyncio.current_task(loop)
    assert task is not None, "requests are served in tasks"
    return task


class Watch:
    """Cancels a block of a request when its time is up or, if it listens, when its client goes.

    Quick blocks pay for one timer only: listening begins after a moment's patience. What the block then
    raises is DeadlineExceeded or ClientGone. A block that receives messages itself must not listen.
    """

    def __init__(self, connection: Connection, seconds: float | None, *, listens: bool = True) -> None:
        self._connection = connection
        self._seconds = None if seconds is None else max(0.0, seconds)
        self._listens = listens
        self._listening: asyncio.Task[None] | None = None
        self._reason: Exception | None = None

    def __enter__(self) -> None:
        delay = _PATIENCE_SECONDS if self._seconds is None else self._seconds
        if self._listens:
            delay = min(_PATIENCE_SECONDS, delay)
        self._timer = self._connection.loop.call_later(delay, self._begin)

    def __exit__(self, kind: type[BaseException] | None, _error: object, _trace: object) -> None:
        self._timer.cancel()
        if self._listening is not None:
            self._listening.cancel()
        if kind is asyncio.CancelledError and self._reason and not self._connection.task.uncancel():
            raise self._reason from None

    def _begin(self) -> None:
        if self._listens:
            self._listening = self._connection.loop.create_task(self._listen())
        else:
            self._end(DeadlineExceeded("the request did not arrive in time"))

    async def _listen(self) -> None:
        left = None if self._seconds is None else self._seconds - _PATIENCE_SECONDS
        try:
            async with asyncio.timeout(left):
                while (await self._connection.receive())["type"] != "http.disconnect":
                    pass
            self._end(ClientGone())
        except TimeoutError:
            self._end(DeadlineExceeded("the answer was not ready in time"))

    def _end(self, reason: Exception) -> None:
        self._reason = reason
        self._connection.task.cancel()
