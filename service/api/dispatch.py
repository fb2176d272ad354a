"""The one path of every operation: raw bytes, typed request, served model, encoded answer.

Plain ASGI around the FastAPI app's own middleware: what it does not know goes on to FastAPI. It also
gives every answer its request id and counts it.
"""

from __future__ import annotations

import asyncio
import re
import time
from typing import Any, Final

from starlette.types import ASGIApp, Receive, Scope, Send

from service.api.coding import DECODE, ENCODE, RECONSTRUCT
from service.api.connection import ClientGone, Connection, Watch
from service.api.discriminating import DISCRIMINATE
from service.api.exchange import PNG, Call, Operation, negotiate
from service.api.interpolation import INTERPOLATE
from service.api.reading import body_limit, from_query, read_request
from service.api.sampling import SAMPLE, SampleRequest, entity_tag, settled
from service.api.scoring import SCORE
from service.errors import Draining, MethodNotAllowed, NotAcceptable, Unfit, UnsupportedMedia
from service.metrics import Metrics
from service.registry import Registry
from service.served import Served
from service.settings import Settings

OPERATIONS: Final = {
    operation.name: operation
    for operation in (SAMPLE, INTERPOLATE, ENCODE, DECODE, RECONSTRUCT, SCORE, DISCRIMINATE)
}
REQUEST_ID: Final = "pushforward.request_id"
"""Where FastAPI's routes find the request's id in their scope."""
_ROUTE = "/v1/models/{{model}}{}/{}"
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
                model, version, name = found.groups()
                connection.route = _ROUTE.format("" if version is None else "/versions/{version}", name)
                _check_method(connection, name)
                await self._operate(connection, model, version, name)
            else:
                scope[REQUEST_ID] = connection.request_id
                await self._app(scope, connection.receive, connection.send)
        except ClientGone:
            connection.status = 499  # never sent; the convention for a client that closed
            self._metrics.rejected.labels("client_gone").inc()
        except asyncio.CancelledError:  # the server gave up waiting for the requests in flight
            await connection.fail(Draining("the service is shutting down"))
        except Exception as error:
            await connection.fail(error)
        finally:
            self._metrics.inflight.dec()
            connection.count()

    async def _operate(self, connection: Connection, model: str, version: str | None, name: str) -> None:
        started_at = time.perf_counter()
        served = self._registry.get(model, version)
        connection.identify(served)
        served.require(name)
        operation = OPERATIONS[name]
        meter = self._metrics.meter(served.manifest.name, name)
        try:
            call = await self._read(connection, served, operation, pinned=version is not None)
            if call is None:
                return
            left = self._deadline(connection) - (time.perf_counter() - started_at)
            with Watch(connection, left):
                answer = await operation.handle(call)
            connection.time(call.timing)
            await connection.answer(answer)
            meter.answered(call.timing.queue_seconds, answer.rows, answer.anomalies)
        finally:
            meter.took(time.perf_counter() - started_at)

    async def _read(
        self, connection: Connection, served: Served, operation: Operation, *, pinned: bool
    ) -> Call[Any] | None:
        """The call that a request makes, or None if it has been answered already."""
        accepted = _accepted(connection.header(b"accept"), served, operation)
        query = connection.scope["query_string"]
        if connection.scope["method"] == "GET":
            wanted = settled(from_query(SampleRequest, query), served, accepted, self._settings)
            if await _not_modified(connection, served, wanted, accepted, pinned=pinned):
                return None
            return Call(served, wanted, None, accepted, self._settings)
        if connection.header(b"content-encoding") not in ("", "identity"):
            raise UnsupportedMedia("compressed bodies are not read; send them as they are")
        content_type = connection.header(b"content-type")
        limit = body_limit(operation, content_type, served, self._settings)
        body = await connection.body(limit, min(self._settings.idle_seconds, self._deadline(connection)))
        self._metrics.body_bytes.observe(len(body))
        request, array = read_request(operation, content_type, query, body, served, self._settings)
        return Call(served, request, array, accepted, self._settings)

    def _deadline(self, connection: Connection) -> float:
        """Seconds the request may take in all."""
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


def _accepted(accept: str, served: Served, operation: Operation) -> str:
    """The media type to answer in; pictures only of items that can be shown.

    Raises:
        NotAcceptable: `Accept` likes nothing that the operation answers for this model; says what it does.
    """
    best = negotiate(accept, operation.answers)
    if best != PNG or served.makes_pictures:
        return best
    others = tuple(kind for kind in operation.answers if kind != PNG)
    try:
        return negotiate(accept, others)
    except NotAcceptable as error:
        raise NotAcceptable(
            f"this model's items, of shape {list(served.manifest.item_shape)}, are no pictures, nor "
            f"points of a plane; {operation.name} answers {', '.join(others)}"
        ) from error


def _check_method(connection: Connection, name: str) -> None:
    allowed = ("GET", "POST") if name == SAMPLE.name else ("POST",)
    if connection.scope["method"] not in allowed:
        raise MethodNotAllowed(f"{name} takes {' and '.join(allowed)}", allowed=allowed)


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
