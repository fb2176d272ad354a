"""The protocol over HTTP, under `/v2`: which path asks the data plane for what."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from functools import lru_cache
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar

import orjson
from pydantic import BaseModel, ConfigDict, ValidationError

from service.api.answer import JSON, Answer
from service.api.exchange import READ_ON_LOOP_BYTES, Exchange
from service.api.keys import Keys
from service.api.open_inference import wire
from service.api.open_inference.model import InferenceAnswer, Model
from service.api.open_inference.plane import DataPlane, Found
from service.api.open_inference.wire import JSON_LENGTH, WireRequest, compressed, decompressed, encoding_for
from service.api.problems import open_inference_error, unfit
from service.errors import Loading, MethodNotAllowed, NotEnabled, Unavailable, Unfit, UnknownRoute
from service.observe.metrics import Metrics
from service.observe.timing import Timing
from service.settings import Settings

_UPLOADS: Final = ("config", "file:")
"""How the parameters begin that carry a model, or its configuration, instead of naming one."""
Document = TypeVar("Document", bound=BaseModel)


class IndexRequest(BaseModel):
    """Which models to list."""

    model_config = ConfigDict(strict=True)

    ready: bool = False
    """Only those that are served."""


class ControlRequest(BaseModel):
    """How to load or unload a model."""

    model_config = ConfigDict(strict=True)

    parameters: dict[str, Any] = {}


def read_index_request(body: bytes) -> IndexRequest:
    """Which models to list, of a body that may be empty; raises Malformed or Unfit if it is no such thing."""
    return _read(IndexRequest, body)


def check_control(body: bytes, *, enabled: bool) -> None:
    """Whether a request to load or unload a model may be followed.

    Raises:
        Unfit: the request brings a model, or a configuration, along.
        NotEnabled: the service was not started so that it may.
    """
    request = _read(ControlRequest, body)
    if any(name.startswith(_UPLOADS) for name in request.parameters):
        raise Unfit(
            "models and their configurations are not taken from requests; publish a version into the models "
            "folder"
        )
    if not enabled:
        raise NotEnabled(
            "models are not loaded or unloaded by request here: the service serves what its models folder "
            "holds; start it with --repository-control to have it otherwise"
        )


def _read(kind: type[Document], body: bytes) -> Document:
    try:
        return kind.model_validate_json(body or b"{}")
    except ValidationError as error:
        raise unfit(error, "the body", kind) from error


_SMALL_BODY_BYTES: Final = 2**16
"""Of requests without tensors."""
_HEALTH_PATHS: Final = ("/v2/health/live", "/v2/health/ready")
"""Which need no key."""


def is_open_inference(path: str) -> bool:
    """Whether a path belongs to the protocol, so that its errors are the protocol's too."""
    return path == "/v2" or path.startswith("/v2/")


class _Route(NamedTuple):
    """What a path says; the template has no names of models, for the metrics."""

    template: str
    method: str
    handle: Handler
    model: str
    version: str | None


Handler: TypeAlias = Callable[["OpenInference", Exchange, _Route], Awaitable[Answer]]


class OpenInference:
    """Answers `/v2`."""

    def __init__(
        self, plane: DataPlane, metrics: Metrics, settings: Settings, keys: Keys | None = None
    ) -> None:
        self._keys = keys
        self._plane = plane
        self._metrics = metrics
        self._settings = settings

    async def serve(self, exchange: Exchange) -> None:
        """Answers one request; what it raises, the connection answers as the protocol has it."""
        exchange.problem = open_inference_error
        if self._keys is not None and exchange.scope["path"] not in _HEALTH_PATHS:
            exchange.check_key(self._keys)
        route = _route(exchange.scope["path"])
        if route is None:
            raise UnknownRoute("there is no such path; /v2 is the Open Inference Protocol, version 2")
        exchange.route = route.template
        if exchange.scope["method"] != route.method:
            raise MethodNotAllowed(f"this path takes {route.method}", allowed=(route.method,))
        await exchange.answer(await route.handle(self, exchange, route))

    async def live(self, _: Exchange, __: _Route) -> Answer:
        """Whether the process should go on."""
        if not self._plane.live:
            raise Unavailable("a batcher keeps dying; restart the process")
        return _json({"live": True})

    async def ready(self, _: Exchange, __: _Route) -> Answer:
        """Whether requests can be taken."""
        if not self._plane.ready:
            raise Loading("the service is loading, or draining; /readyz says which")
        return _json({"ready": True})

    async def server(self, _: Exchange, __: _Route) -> Answer:
        """The server's metadata."""
        return _json(self._plane.server())

    async def metadata(self, _: Exchange, route: _Route) -> Answer:
        """A model's metadata."""
        return _json(self._plane.metadata(route.model, route.version))

    async def model_ready(self, _: Exchange, route: _Route) -> Answer:
        """Whether a model can answer."""
        return _json({"name": self._plane.find(route.model, route.version).model.name, "ready": True})

    async def config(self, _: Exchange, route: _Route) -> Answer:
        """A model's configuration."""
        return _json(self._plane.config(route.model, route.version))

    async def statistics(self, _: Exchange, route: _Route) -> Answer:
        """A model's statistics, or those of all."""
        return _json(self._plane.statistics(route.model or None, route.version))

    async def index(self, exchange: Exchange, _: _Route) -> Answer:
        """Every model there is."""
        request = read_index_request(await self._small_body(exchange))
        return _json(self._plane.index(ready=request.ready))

    async def load(self, exchange: Exchange, route: _Route) -> Answer:
        """Loads a model's versions, also what failed or was unloaded."""
        check_control(await self._small_body(exchange), enabled=self._settings.repository_control)
        await self._plane.load(route.model)
        return _json({})

    async def unload(self, exchange: Exchange, route: _Route) -> Answer:
        """Lets go of a model."""
        check_control(await self._small_body(exchange), enabled=self._settings.repository_control)
        await self._plane.unload(route.model)
        return _json({})

    async def infer(self, exchange: Exchange, route: _Route) -> Answer:
        """Inference."""
        found = self._plane.find(route.model, route.version)
        with found.loaded:  # until it has answered, though another version may take its place
            return await self._infer(found, exchange)

    async def _infer(self, found: Found, exchange: Exchange) -> Answer:
        timing, settings = Timing(), self._settings
        if exchange.trace is not None:
            timing, exchange.trace.meter = exchange.trace.timing, found.model.meter
        exchange.identify(found.loaded.headers)
        json_length = exchange.header(JSON_LENGTH)
        limit = wire.body_limit(found.model, settings, has_length=bool(json_length))
        deadline = exchange.deadline_seconds(settings.deadline_seconds)
        with exchange.watch(deadline, min(settings.idle_seconds, deadline)) as watch:
            body = await exchange.body(limit)
            self._metrics.body_bytes.observe(len(body))
            body = await decompressed(body, exchange.header(b"content-encoding"), limit)

            async def read(model: Model) -> WireRequest:
                if len(body) > READ_ON_LOOP_BYTES:
                    request = await asyncio.to_thread(wire.read_request, model, body, json_length, settings)
                else:
                    request = wire.read_request(model, body, json_length, settings)
                watch.listen(request.timeout_seconds)
                return request

            async def write(model: Model, request: WireRequest, answer: InferenceAnswer) -> Answer:
                whole = await wire.written(model, request, answer, settings)
                return await _encoded(whole, exchange.header(b"accept-encoding"))

            answer = await self._plane.infer(found, timing, read, write)
        exchange.time(timing)
        return answer

    async def _small_body(self, exchange: Exchange) -> bytes:
        seconds = self._settings.idle_seconds
        with exchange.watch(seconds, seconds):
            return await exchange.body(min(_SMALL_BODY_BYTES, self._settings.max_body_bytes))


def _json(document: Any) -> Answer:
    body = orjson.dumps(document)
    return Answer(JSON, body, len(body))


async def _encoded(answer: Answer, accept_encoding: str) -> Answer:
    """The answer, compressed if the client asks for that."""
    encoding = encoding_for(accept_encoding)
    if not encoding:
        return answer
    assert isinstance(answer.body, bytes), "answers of this protocol are whole"
    body = await compressed(answer.body, encoding)
    headers = (*answer.headers, (b"content-encoding", encoding.encode()))
    return Answer(answer.media_type, body, len(body), headers, answer.rows)


_MODEL: Final = r"/v2/models/(?P<model>[^/]+)(?:/versions/(?P<version>[^/]+))?"
_PATHS: Final[tuple[tuple[str, str, str, Handler], ...]] = (
    (r"/v2/?", "", "GET", OpenInference.server),
    (r"/v2/health/live", "/health/live", "GET", OpenInference.live),
    (r"/v2/health/ready", "/health/ready", "GET", OpenInference.ready),
    (r"/v2/models/stats", "/models/stats", "GET", OpenInference.statistics),
    (_MODEL, "", "GET", OpenInference.metadata),
    (_MODEL + "/ready", "/ready", "GET", OpenInference.model_ready),
    (_MODEL + "/infer", "/infer", "POST", OpenInference.infer),
    (_MODEL + "/config", "/config", "GET", OpenInference.config),
    (_MODEL + "/stats", "/stats", "GET", OpenInference.statistics),
    (r"/v2/repository/index", "/repository/index", "POST", OpenInference.index),
    (
        r"/v2/repository/models/(?P<named>[^/]+)/load",
        "/repository/models/{model}/load",
        "POST",
        OpenInference.load,
    ),
    (
        r"/v2/repository/models/(?P<named>[^/]+)/unload",
        "/repository/models/{model}/unload",
        "POST",
        OpenInference.unload,
    ),
)
"""Patterns of paths, the ends of their templates, and what answers them."""


@lru_cache(maxsize=256)
def _route(path: str) -> _Route | None:
    for pattern, end, method, handle in _PATHS:
        found = re.fullmatch(pattern, path)
        if found is not None:
            names = found.groupdict()
            model, version = names.get("model", ""), names.get("version")
            template = "/v2"
            if model:
                template += "/models/{model}" + ("" if version is None else "/versions/{version}")
            return _Route(template + end, method, handle, model or names.get("named", ""), version)
    return None
