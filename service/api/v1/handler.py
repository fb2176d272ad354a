"""The request handler of all operations under `/v1`: raw bytes, typed options, operation, encoded answer."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from itertools import chain, product
from typing import Final
from weakref import WeakKeyDictionary

from service.api.answer import JSON, PNG
from service.api.body import read_body
from service.api.exchange import Exchange
from service.api.operations.call import Call
from service.api.paths import PREFIXES, ModelPath, model_path
from service.api.v1.code import DECODE, ENCODE, READ, RECONSTRUCT
from service.api.v1.discriminate import DISCRIMINATE
from service.api.v1.interpolate import INTERPOLATE
from service.api.v1.negotiation import negotiate
from service.api.v1.operation import Operation
from service.api.v1.request import ReadRequest, RequestReader, content_type_of, from_query, short_bytes
from service.api.v1.sample import SAMPLE, SampleRequest, entity_tag
from service.api.v1.score import SCORE
from service.errors import MethodNotAllowed, NotAcceptable
from service.lifecycle.registry import Registry
from service.observe.metrics import Metrics
from service.observe.timing import Timing
from service.runtime.model import LoadedModel
from service.settings import Settings

OPERATIONS: Final = {
    operation.name: operation
    for operation in (SAMPLE, INTERPOLATE, ENCODE, DECODE, RECONSTRUCT, SCORE, DISCRIMINATE, READ)
}


class Handler:
    """Answers requests for the operations under `/v1`."""

    def __init__(self, registry: Registry, metrics: Metrics, settings: Settings) -> None:
        # shared caches must not hold what only the clients with keys may read
        self._shared = b"public" if settings.keys_file is None else b"private"
        self._registry = registry
        self._metrics = metrics
        self._settings = settings
        self._readers: WeakKeyDictionary[LoadedModel, dict[Operation, RequestReader]] = WeakKeyDictionary()
        for name, operation in OPERATIONS.items():
            for prefix, method in product(PREFIXES, operation.methods):
                metrics.expect(f"{prefix}/{name}", method)

    async def serve(self, exchange: Exchange) -> bool:
        """Answer a request for an operation. Return False, and do nothing, if the path is not of one."""
        path = model_path(exchange.scope["path"])
        operation = None if path is None else OPERATIONS.get(path.action)
        if path is None or operation is None:
            return False
        exchange.route = path.template
        allowed = operation.methods
        if exchange.scope["method"] not in allowed:
            raise MethodNotAllowed(f"{operation.name} takes {' and '.join(allowed)}", allowed=allowed)
        with self._registry.get(path.model, path.version) as loaded:
            await self._operate(exchange, path, operation, loaded)
        return True

    async def _operate(
        self, exchange: Exchange, path: ModelPath, operation: Operation, loaded: LoadedModel
    ) -> None:
        started_at, settings = time.perf_counter(), self._settings
        exchange.identify(loaded.headers)
        reader = self._reader(loaded, operation)
        timing = Timing() if exchange.trace is None else exchange.trace.timing
        try:
            with exchange.request_scope(settings.deadline_seconds, settings.idle_seconds) as scope:
                (options, arrays, ids, conversions), accepted = await self._read(
                    exchange, operation, loaded, reader
                )
                is_get = exchange.scope["method"] == "GET"
                if is_get and await self._not_modified(exchange, path, loaded, options, accepted):
                    return
                if exchange.trace is not None:
                    exchange.trace.meter = reader.meter
                scope.listen()
                if accepted == JSON and PNG in operation.answers:  # the answer may hold items
                    rows = len(next(iter(arrays.values()), ())) or getattr(options, "count", 1)
                    exchange.expect(rows * loaded.item_bytes)
                call = Call(loaded, options, arrays, settings, timing, ids, conversions)
                answer = await operation.answer(call, accepted)
            exchange.add_timing(timing)
            await exchange.answer(answer)
            reader.meter.answered(timing.queue_seconds, answer.rows, answer.anomalies, answer.p_values)
        finally:
            reader.meter.took(time.perf_counter() - started_at)

    def _reader(self, loaded: LoadedModel, operation: Operation) -> RequestReader:
        """Return the reader of an operation's requests, made once per version; raises OperationNotOffered."""
        try:
            return self._readers[loaded][operation]
        except KeyError:
            reader = RequestReader(operation, loaded, self._metrics, self._settings)
            self._readers.setdefault(loaded, {})[operation] = reader
            return reader

    async def _read(
        self, exchange: Exchange, operation: Operation, loaded: LoadedModel, reader: RequestReader
    ) -> tuple[ReadRequest, str]:
        """Return a request, and the media type that its answer will have."""
        accept = exchange.header(b"accept")
        accepted = reader.accepted(accept)
        query = exchange.scope["query_string"]
        if exchange.scope["method"] == "GET":
            request = ReadRequest(from_query(operation.request, query), {})
        else:
            content_type = content_type_of(exchange.header(b"content-type"))
            body = await exchange.body(*reader.body_limit(content_type))
            self._metrics.body_bytes.observe(len(body))
            files, short = None, short_bytes(content_type)
            if reader.unpacks(content_type):
                files, short = await asyncio.to_thread(reader.files, content_type, body), 0
                exchange.hold(files.memory_bytes)
            request = await read_body(body, partial(reader.read, content_type, query, body, files), short)
            if request.conversions and (done := dict.fromkeys(chain.from_iterable(request.conversions))):
                exchange.add_header(b"x-pushforward-conversions", "; ".join(done).encode())
        if operation.answers_to is not None:
            try:
                accepted = negotiate(accept, operation.answers_to(request.options))
            except NotAcceptable as error:
                raise NotAcceptable(f"{error}. {operation.description}") from error
        if operation.completed is not None:
            options = operation.completed(request.options, loaded, accepted, self._settings)
            if options is not request.options:
                request = request._replace(options=options)
        return request, accepted

    async def _not_modified(
        self, exchange: Exchange, path: ModelPath, loaded: LoadedModel, request: SampleRequest, accepted: str
    ) -> bool:
        """Add the caching headers of a GET; if the client has the answer, send 304 and return True."""
        exchange.add_header(b"vary", b"Accept")
        if request.seed is None:
            exchange.add_header(b"cache-control", b"no-cache")
            return False
        tag = entity_tag(loaded, request, accepted)
        # unlike an alias, a number is for ever
        pinned = path.version is not None and path.version.isdigit()
        exchange.add_header(
            b"cache-control", b"%b, max-age=31536000, immutable" % self._shared if pinned else b"no-cache"
        )
        exchange.add_header(b"etag", tag.encode())
        given = exchange.header(b"if-none-match").split(",")
        known = {candidate.strip().removeprefix("W/") for candidate in given}
        if tag.removeprefix("W/") not in known and "*" not in known:
            return False
        await exchange.send({"type": "http.response.start", "status": 304, "headers": []})
        await exchange.send({"type": "http.response.body", "body": b""})
        return True
