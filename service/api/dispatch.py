"""The one path of every operation: raw bytes, typed request, served model, encoded answer.

A plain ASGI middleware inside the FastAPI app: what it does not know goes on to FastAPI's router. It
also gives every answer its request id and counts it.
"""

from __future__ import annotations

import asyncio
import re
import time
from typing import Any, Final

from starlette.types import ASGIApp, Receive, Scope, Send

from service.api.coding import DECODE, ENCODE, RECONSTRUCT
from service.api.connection import ClientGone, Connection, watched
from service.api.exchange import Call, Operation, from_query, negotiate, read_request
from service.api.sampling import INTERPOLATE, SAMPLE, SampleRequest, entity_tag
from service.api.scoring import SCORE
from service.errors import (
    BodyTooLarge,
    DeadlineExceeded,
    MethodNotAllowed,
    Unfit,
    UnsupportedMedia,
)
from service.metrics import Metrics
from service.registry import Registry
from service.served import Served
from service.settings import Settings

OPERATIONS: Final = {
    operation.name: operation for operation in (SAMPLE, INTERPOLATE, ENCODE, DECODE, RECONSTRUCT, SCORE)
}
_PATH = re.compile(r"/v1/models/([^/]+)(?:/versions/([^/]+))?/([a-z]+)")


class Dispatcher:
    """Answers the operations of `/v1` itself and hands everything else on."""

    def __init__(self, app: ASGIApp, registry: Registry, metrics: Metrics, settings: Settings) -> None:
        self._app = app
        self._registry = registry
        self._metrics = metrics
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one ASGI connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        connection = Connection(scope, receive, send, self._metrics)
        self._metrics.inflight.inc()
        try:
            found = _PATH.fullmatch(scope["path"])
            if found is not None and found[3] in OPERATIONS:
                await self._operate(connection, found[1], found[2], OPERATIONS[found[3]])
            else:
                await self._app(scope, connection.receive, connection.send)
        except ClientGone:
            connection.status = 499  # never sent; the convention for a client that closed
            self._metrics.rejected.labels("client_gone").inc()
        except Exception as error:
            await connection.fail(error)
        finally:
            self._metrics.inflight.dec()
            connection.count()

    async def _operate(
        self, connection: Connection, model: str, version: str | None, operation: Operation
    ) -> None:
        started_at = time.perf_counter()
        pinned = "/versions/{version}" if version is not None else ""
        connection.route = f"/v1/models/{{model}}{pinned}/{operation.name}"
        method = connection.scope["method"]
        if method != "POST" and not (method == "GET" and operation is SAMPLE):
            allowed = ("GET", "POST") if operation is SAMPLE else ("POST",)
            raise MethodNotAllowed(f"{operation.name} takes {' and '.join(allowed)}", allowed=allowed)
        served = self._registry.get(model, version)
        served.require(operation.name)
        accepted = negotiate(connection.header(b"accept"), operation.answers)
        deadline = self._deadline(connection)
        query = connection.scope["query_string"]
        if method == "GET":
            wanted = from_query(SampleRequest, query)
            if await _not_modified(connection, served, wanted, accepted, pinned=version is not None):
                return
            call: Call[Any] = Call(served, wanted, None, accepted, self._settings)
        else:
            body = await self._body(connection)
            content_type = connection.header(b"content-type")
            request, array = await read_request(operation, content_type, query, body, served, self._settings)
            call = Call(served, request, array, accepted, self._settings)
        with watched(connection.receive, deadline):
            answer = await operation.handle(call)
        connection.identify(served, call.timing)
        await connection.answer(answer, self._settings.idle_seconds)
        self._metrics.meter(served.manifest.name, operation.name).count(
            time.perf_counter() - started_at, call.timing.queue_seconds, answer.rows, answer.anomalies
        )

    def _deadline(self, connection: Connection) -> float:
        text = connection.header(b"x-request-timeout-seconds")
        if not text:
            return self._settings.deadline_seconds
        try:
            seconds = float(text)
        except ValueError:
            seconds = 0.0
        if not seconds > 0:
            raise Unfit("x-request-timeout-seconds takes a positive number of seconds")
        return min(seconds, self._settings.deadline_seconds)

    async def _body(self, connection: Connection) -> bytes:
        """The whole request body, bounded in bytes and in time."""
        if connection.header(b"content-encoding") not in ("", "identity"):
            raise UnsupportedMedia("compressed bodies are not read; send them as they are")
        limit = self._settings.max_body_bytes
        too_large = BodyTooLarge(f"a body has at most {limit} bytes")
        length = connection.header(b"content-length")
        if length.isdecimal() and int(length) > limit:
            raise too_large
        body = bytearray()
        try:
            async with asyncio.timeout(self._settings.idle_seconds):
                while True:
                    message = await connection.receive()
                    if message["type"] == "http.disconnect":
                        raise ClientGone
                    body += message.get("body", b"")
                    if len(body) > limit:
                        raise too_large
                    if not message.get("more_body", False):
                        break
        except TimeoutError:
            seconds = self._settings.idle_seconds
            raise DeadlineExceeded(f"the body did not arrive within {seconds:g} s") from None
        self._metrics.body_bytes.observe(len(body))
        return bytes(body)


async def _not_modified(
    connection: Connection, served: Served, request: SampleRequest, accepted: str, *, pinned: bool
) -> bool:
    """Adds the caching headers of a GET; answers 304 and returns True if the client has it already."""
    connection.add("vary", "Accept")
    if request.seed is None:
        connection.add("cache-control", "no-cache")
        return False
    tag = entity_tag(served, request, accepted)
    connection.add("cache-control", "public, max-age=31536000, immutable" if pinned else "no-cache")
    connection.add("etag", tag)
    given = connection.header(b"if-none-match").split(",")
    known = {candidate.strip().removeprefix("W/") for candidate in given}
    if tag.removeprefix("W/") not in known and "*" not in known:
        return False
    await connection.send({"type": "http.response.start", "status": 304, "headers": []})
    await connection.send({"type": "http.response.body", "body": b""})
    return True
