"""The one path of every operation of `/v1`: raw bytes, typed request, loaded model, encoded answer."""

from __future__ import annotations

import asyncio
import re
import time
from functools import lru_cache
from typing import Any, Final, NamedTuple
from weakref import WeakKeyDictionary

from service.api.answer import PNG
from service.api.exchange import READ_ON_LOOP_BYTES, Exchange
from service.api.operations.options import Body
from service.api.operations.sample import SampleRequest, settled
from service.api.v1.code import DECODE, ENCODE, RECONSTRUCT
from service.api.v1.discriminate import DISCRIMINATE
from service.api.v1.interpolate import INTERPOLATE
from service.api.v1.operation import Call, Operation, negotiate
from service.api.v1.request import Reader, from_query
from service.api.v1.sample import SAMPLE, entity_tag
from service.api.v1.score import SCORE
from service.errors import MethodNotAllowed, NotAcceptable, UnsupportedMedia
from service.lifecycle.registry import Registry
from service.observe.metrics import Metrics
from service.runtime.model import LoadedModel
from service.settings import Settings

OPERATIONS: Final = {
    operation.name: operation
    for operation in (SAMPLE, INTERPOLATE, ENCODE, DECODE, RECONSTRUCT, SCORE, DISCRIMINATE)
}
_ROUTE = "/v1/models/{{model}}{}/{}"
_PLACES = ("", "/versions/{version}")
_PATH = re.compile(r"/v1/models/([^/]+)(?:/versions/([^/]+))?/([a-z]+)")


class _Route(NamedTuple):
    """What the path of an operation says."""

    template: str
    model: str
    version: str | None
    """A number, or an alias."""
    operation: Operation

    @property
    def pinned(self) -> bool:
        """Whether it names a version that will never be another one, as an alias may."""
        return self.version is not None and self.version.isdigit()


@lru_cache(maxsize=256)
def _route(path: str) -> _Route | None:
    found = _PATH.fullmatch(path)
    if found is None or found[3] not in OPERATIONS:
        return None
    model, version, name = found.groups()
    template = _ROUTE.format(_PLACES[version is not None], name)
    return _Route(template, model, version, OPERATIONS[name])


class _Offer:
    """What is the same for all requests for an operation of a version, which it does not hold itself."""

    def __init__(
        self, operation: Operation, loaded: LoadedModel, metrics: Metrics, settings: Settings
    ) -> None:
        loaded.require(operation.name)
        manifest = loaded.manifest
        self.meter = metrics.meter(manifest.name, operation.name)
        self.reader = Reader(operation, manifest, settings)
        self._operation = operation
        self._item_shape = manifest.item_shape
        self._answers = operation.answers
        if not loaded.makes_pictures:
            self._answers = tuple(kind for kind in operation.answers if kind != PNG)

    def accepted(self, accept: str) -> str:
        """The media type to answer in; pictures only of what can be shown.

        Raises:
            NotAcceptable: `Accept` likes nothing that is answered for this model; says what is.
        """
        if self._answers == self._operation.answers or negotiate(accept, self._operation.answers) != PNG:
            return negotiate(accept, self._operation.answers)
        try:
            return negotiate(accept, self._answers)
        except NotAcceptable as error:
            raise NotAcceptable(
                f"this model's items, of shape {list(self._item_shape)}, are no pictures, nor points of a "
                f"plane; {self._operation.name} answers {', '.join(self._answers)}"
            ) from error

    def accepted_for(self, request: Body, accept: str, accepted: str) -> str:
        """The media type that was accepted before the request was read, or what it can have instead.

        Raises:
            NotAcceptable: `Accept` likes nothing that such a request can have; says what it can.
        """
        answers_to = self._operation.answers_to
        if answers_to is None or (answers := answers_to(request)) == self._operation.answers:
            return accepted
        return negotiate(accept, answers)


class Handler:
    """Answers the operations of `/v1`."""

    def __init__(self, registry: Registry, metrics: Metrics, settings: Settings) -> None:
        self._registry = registry
        self._metrics = metrics
        self._settings = settings
        self._offers: WeakKeyDictionary[LoadedModel, dict[Operation, _Offer]] = WeakKeyDictionary()
        for operation in OPERATIONS.values():
            for place in _PLACES:
                for method in _methods(operation):
                    metrics.expect(_ROUTE.format(place, operation.name), method)

    async def serve(self, exchange: Exchange) -> bool:
        """Answer a request for an operation. Returns False, and does nothing, if its path is of none."""
        route = _route(exchange.scope["path"])
        if route is None:
            return False
        exchange.route = route.template
        _check_method(exchange, route.operation)
        with self._registry.get(route.model, route.version) as loaded:
            await self._operate(exchange, route, loaded)
        return True

    async def _operate(self, exchange: Exchange, route: _Route, loaded: LoadedModel) -> None:
        started_at = time.perf_counter()
        exchange.identify(loaded.headers)
        offer = self._offer(loaded, route.operation)
        try:
            deadline = exchange.deadline_seconds(self._settings.deadline_seconds)
            with exchange.watch(deadline, min(self._settings.idle_seconds, deadline)) as watch:
                call = await self._call(exchange, loaded, offer, pinned=route.pinned)
                if call is None:
                    return
                if exchange.trace is not None:
                    exchange.trace.meter, call.timing = offer.meter, exchange.trace.timing
                watch.listen()
                answer = await route.operation.handle(call)
            exchange.time(call.timing)
            await exchange.answer(answer)
            offer.meter.answered(call.timing.queue_seconds, answer.rows, answer.anomalies, answer.p_values)
        finally:
            offer.meter.took(time.perf_counter() - started_at)

    def _offer(self, loaded: LoadedModel, operation: Operation) -> _Offer:
        """Made once for each version; raises OperationNotOffered."""
        offers = self._offers.setdefault(loaded, {})
        if operation not in offers:
            offers[operation] = _Offer(operation, loaded, self._metrics, self._settings)
        return offers[operation]

    async def _call(
        self, exchange: Exchange, loaded: LoadedModel, offer: _Offer, *, pinned: bool
    ) -> Call[Any] | None:
        """The call that a request makes, or None if it has been answered already."""
        accepted = offer.accepted(exchange.header(b"accept"))
        query = exchange.scope["query_string"]
        if exchange.scope["method"] == "GET":
            wanted = settled(from_query(SampleRequest, query), loaded, accepted, self._settings)
            if await _not_modified(exchange, loaded, wanted, accepted, pinned=pinned):
                return None
            return Call(loaded, wanted, None, accepted, self._settings)
        if exchange.header(b"content-encoding") not in ("", "identity"):
            raise UnsupportedMedia("compressed bodies are not read; send them as they are")
        content_type = exchange.header(b"content-type")
        limit = offer.reader.body_limit(content_type)
        body = await exchange.body(limit)
        self._metrics.body_bytes.observe(len(body))
        if len(body) > READ_ON_LOOP_BYTES:
            request, array = await asyncio.to_thread(offer.reader.read, content_type, query, body)
        else:
            request, array = offer.reader.read(content_type, query, body)
        accepted = offer.accepted_for(request, exchange.header(b"accept"), accepted)
        return Call(loaded, request, array, accepted, self._settings)


def _methods(operation: Operation) -> tuple[str, ...]:
    return ("GET", "POST") if operation is SAMPLE else ("POST",)


def _check_method(exchange: Exchange, operation: Operation) -> None:
    allowed = _methods(operation)
    if exchange.scope["method"] not in allowed:
        raise MethodNotAllowed(f"{operation.name} takes {' and '.join(allowed)}", allowed=allowed)


async def _not_modified(
    exchange: Exchange, loaded: LoadedModel, request: SampleRequest, accepted: str, *, pinned: bool
) -> bool:
    """Adds the caching headers of a GET; answers 304 and returns True if the client has it already."""
    exchange.add(b"vary", b"Accept")
    if request.seed is None:
        exchange.add(b"cache-control", b"no-cache")
        return False
    tag = entity_tag(loaded, request, accepted)
    exchange.add(b"cache-control", b"public, max-age=31536000, immutable" if pinned else b"no-cache")
    exchange.add(b"etag", tag.encode())
    given = exchange.header(b"if-none-match").split(",")
    known = {candidate.strip().removeprefix("W/") for candidate in given}
    if tag.removeprefix("W/") not in known and "*" not in known:
        return False
    await exchange.send({"type": "http.response.start", "status": 304, "headers": []})
    await exchange.send({"type": "http.response.body", "body": b""})
    return True
