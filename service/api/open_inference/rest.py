"""The Open Inference Protocol over HTTP, under `/v2`: what each path asks of the data plane."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from functools import lru_cache, partial
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar

from pydantic import BaseModel, ValidationError

from service.api.answer import JSON, Answer, to_json
from service.api.body import read_body
from service.api.exchange import Exchange
from service.api.keys import Scope
from service.api.open_inference import wire
from service.api.open_inference.model import InferenceAnswer
from service.api.open_inference.plane import DataPlane
from service.api.open_inference.wire import JSON_LENGTH, WireRequest, compressed
from service.api.problems import unfit
from service.errors import Loading, MethodNotAllowed, NotEnabled, Unavailable, Unfit, UnknownRoute
from service.observe.metrics import Metrics
from service.observe.timing import Timing
from service.settings import Settings

_UPLOADS: Final = ("config", "file:")
"""Prefixes of the parameters that carry a model or its configuration."""
_SMALL_BODY_BYTES: Final = 2**16
"""Most bytes of a request without tensors."""
Document = TypeVar("Document", bound=BaseModel)


class IndexRequest(BaseModel, strict=True):
    """Body of a request for the repository's index."""

    ready: bool = False
    """List only the models that are served."""


class ControlRequest(BaseModel, strict=True):
    """Body of a request to load or unload a model."""

    parameters: dict[str, Any] = {}


def is_open_inference(path: str) -> bool:
    """Return True if a path belongs to the protocol, so that its errors have the protocol's form too."""
    return path == "/v2" or path.startswith("/v2/")


def is_probe(path: str) -> bool:
    """Return True if a path of the protocol needs no key."""
    return path in ("/v2/health/live", "/v2/health/ready")


def scope_of(path: str) -> Scope:
    """Return the scope that a key needs for a path."""
    return "control" if path.startswith("/v2/repository/models/") else "infer"


class _Path(NamedTuple):
    """The parts of a path; the template, for the metrics, has no names of models."""

    template: str
    method: str
    endpoint: Endpoint
    model: str
    version: str | None


Endpoint: TypeAlias = Callable[["OpenInference", Exchange, _Path], Awaitable[Answer]]


class OpenInference:
    """Answers requests under `/v2`."""

    def __init__(self, plane: DataPlane, metrics: Metrics, settings: Settings) -> None:
        self.plane = plane
        self._metrics = metrics
        self._settings = settings

    async def serve(self, exchange: Exchange) -> None:
        """Answer one request; the caller answers the errors that this raises."""
        route = _route(exchange.scope["path"])
        if route is None:
            raise UnknownRoute("there is no such path; /v2 is the Open Inference Protocol, version 2")
        exchange.route = route.template
        if exchange.scope["method"] != route.method:
            raise MethodNotAllowed(f"this path takes {route.method}", allowed=(route.method,))
        await exchange.answer(await route.endpoint(self, exchange, route))

    async def index(self, exchange: Exchange, _: _Path) -> Answer:
        """List every model."""
        request = await self._small_body(exchange, IndexRequest)
        return _json(self.plane.index(ready=request.ready))

    async def control(self, exchange: Exchange, route: _Path) -> Answer:
        """Load a model's versions, also those that failed or were unloaded; or unload a model.

        Raises:
            Unfit: the request brings a model or its configuration along.
            NotEnabled: the service was not started with `--repository-control`.
        """
        request = await self._small_body(exchange, ControlRequest)
        if any(name.startswith(_UPLOADS) for name in request.parameters):
            raise Unfit(
                "models and their configurations are not taken from requests; publish a version into the "
                "models folder"
            )
        if not self._settings.repository_control:
            raise NotEnabled(
                "models are not loaded or unloaded by request here: the service serves what its models "
                "folder holds; start it with --repository-control to have it otherwise"
            )
        change = self.plane.load if route.template.endswith("/load") else self.plane.unload
        await change(route.model)
        return _json({})

    async def _small_body(self, exchange: Exchange, kind: type[Document]) -> Document:
        seconds = self._settings.idle_seconds
        with exchange.cancel_scope(seconds, seconds):
            body = await exchange.body(min(_SMALL_BODY_BYTES, self._settings.max_body_bytes))
        try:
            return kind.model_validate_json(body or b"{}")
        except ValidationError as error:
            raise unfit(error, "the body", kind) from error

    async def infer(self, exchange: Exchange, route: _Path) -> Answer:
        """Run a model on the tensors of a request."""
        loaded, model = self.plane.find(route.model, route.version)
        timing, settings = Timing(), self._settings
        if exchange.trace is not None:
            timing, exchange.trace.meter = exchange.trace.timing, model.meter
        exchange.identify(loaded.headers)
        json_length = exchange.header(JSON_LENGTH)
        limit = wire.body_limit(model, settings, has_length=bool(json_length))
        # the version stays loaded until it has answered, though another may take its place
        with loaded, exchange.request_scope(settings.deadline_seconds, settings.idle_seconds) as scope:
            body = await exchange.body(limit)
            self._metrics.body_bytes.observe(len(body))

            async def read() -> WireRequest:
                read_request = partial(wire.read_request, model, body, json_length, settings)
                request = await read_body(body, read_request)
                scope.listen(request.timeout_seconds)
                return request

            async def write(request: WireRequest, answer: InferenceAnswer) -> Answer:
                exchange.expect(wire.bytes_written_from(request, answer))
                whole = await wire.written(model, request, answer, settings)
                return await compressed(whole, exchange.header(b"accept-encoding"))

            answer = await self.plane.infer(loaded, model, timing, read, write)
        exchange.add_timing(timing)
        return answer


def _json(document: Any) -> Answer:
    body = to_json(document)
    return Answer(JSON, body, len(body))


def _live(plane: DataPlane, _: _Path) -> Any:
    if not plane.lifecycle.healthy:
        raise Unavailable("computations keep failing, or one never ends; restart the process")
    return {"live": True}


def _ready(plane: DataPlane, _: _Path) -> Any:
    if not plane.lifecycle.ready:
        raise Loading("the service is loading, or draining; /readyz says which")
    return {"ready": True}


def _model_ready(plane: DataPlane, route: _Path) -> Any:
    return {"name": plane.find(route.model, route.version)[1].name, "ready": True}


def _document(of: Callable[[DataPlane, _Path], Any]) -> Endpoint:
    """Return the endpoint that answers a document of the data plane."""

    async def endpoint(service: OpenInference, _: Exchange, route: _Path) -> Answer:
        return _json(of(service.plane, route))

    return endpoint


_MODEL: Final = r"/v2/models/(?P<model>[^/]+)(?:/versions/(?P<version>[^/]+))?"
_REPOSITORY: Final = r"/v2/repository/models/(?P<named>[^/]+)"
_CONFIG = _document(lambda plane, route: plane.config(route.model, route.version))
_STATISTICS = _document(lambda plane, route: plane.statistics(route.model or None, route.version))
_PATHS: Final[tuple[tuple[str, str, str, Endpoint], ...]] = (
    (r"/v2/?", "", "GET", _document(lambda plane, _: plane.server())),
    (r"/v2/health/live", "/health/live", "GET", _document(_live)),
    (r"/v2/health/ready", "/health/ready", "GET", _document(_ready)),
    (r"/v2/models/stats", "/models/stats", "GET", _STATISTICS),
    (_MODEL, "", "GET", _document(lambda plane, route: plane.metadata(route.model, route.version))),
    (_MODEL + "/ready", "/ready", "GET", _document(_model_ready)),
    (_MODEL + "/infer", "/infer", "POST", OpenInference.infer),
    (_MODEL + "/config", "/config", "GET", _CONFIG),
    (_MODEL + "/stats", "/stats", "GET", _STATISTICS),
    (r"/v2/repository/index", "/repository/index", "POST", OpenInference.index),
    (_REPOSITORY + "/load", "/repository/models/{model}/load", "POST", OpenInference.control),
    (_REPOSITORY + "/unload", "/repository/models/{model}/unload", "POST", OpenInference.control),
)
"""Patterns of paths, the ends of their templates, methods, and endpoints."""


@lru_cache(maxsize=256)
def _route(path: str) -> _Path | None:
    for pattern, end, method, endpoint in _PATHS:
        found = re.fullmatch(pattern, path)
        if found is not None:
            names = found.groupdict()
            model, version = names.get("model", ""), names.get("version")
            template = "/v2"
            if model:
                template += "/models/{model}" + ("" if version is None else "/versions/{version}")
            return _Path(template + end, method, endpoint, model or names.get("named", ""), version)
    return None
