"""`create_app`: the only place that wires the parts together."""

from __future__ import annotations

import asyncio
import gc
import logging
import math
import os
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse
from starlette.types import ASGIApp

from service import errors
from service.api.body import ByteBudget
from service.api.dispatch import REQUEST_ID, Dispatcher
from service.api.keys import Keys
from service.api.open_inference.plane import DataPlane
from service.api.open_inference.rest import OpenInference
from service.api.probes import Lifecycle, probes_router
from service.api.problems import problem
from service.api.remote_vae import RemoteVae, described
from service.api.tls import Certificate
from service.api.v1.catalogue import catalogue_router
from service.api.v1.examples import with_examples
from service.api.v1.handler import Handler
from service.api.v1.openapi import openapi_of
from service.lifecycle.registry import Registry
from service.lifecycle.watching import watch
from service.observe.accumulators import SampledGauge
from service.observe.metrics import Metrics, release
from service.page import page_router
from service.settings import Settings, has_gpu

if TYPE_CHECKING:
    from service.api.open_inference.rpc import RpcServer
    from service.observe.tracing import Tracing

_RETRY_SECONDS: Final = 0.5
"""Interval between looks at versions that failed for a moment."""
log = logging.getLogger(__name__)


class Service(NamedTuple):
    """The service as an ASGI app, the lifecycle that a server controls, and the certificate that it has."""

    app: ASGIApp
    lifecycle: Lifecycle
    certificate: Certificate | None = None


def create_app(
    settings: Settings,
    metrics: Metrics | None = None,
    *,
    loads_first: bool = False,
    others_serve: bool = False,
) -> Service:
    """Create the service; it loads its models once the app's lifespan begins.

    `metrics` are those shared with other processes, if there are any. If `loads_first`, the lifespan begins,
    and so the service listens, only once the models are loaded; until then, requests otherwise get 503. If
    `others_serve`, it also waits until it is ready, since requests that it cannot answer are theirs; but not
    while none of them is ready either, as where a model is broken for all.

    Raises:
        ProviderUnavailable: `--device cuda` is set, and CUDA cannot be used here.
        NotEnabled: `--grpc-port` is set, and gRPC is not installed.
        InvalidKeys: the file of `--keys-file` cannot be read, or has no valid keys.
        CannotListen: the files for TLS cannot be used.
    """
    metrics = metrics or Metrics()
    registry = Registry(settings, metrics)
    lifecycle = Lifecycle(registry, metrics)
    budget = ByteBudget(settings.max_inflight_bytes)
    keys = None if settings.keys_file is None else Keys(settings.keys_file, metrics)
    tls = settings.tls_certificate
    certificate = None if tls is None else Certificate(tls, settings.tls_key, metrics)
    tracing = _tracing(settings)
    plane = DataPlane(registry, metrics, lifecycle, settings)
    rpc = _rpc_server(plane, metrics, settings, budget, keys, certificate)
    _show_state(metrics, settings, lifecycle, budget)
    registry.discover()  # at last, because it may fetch from afar

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with _working(registry, metrics, settings, document, keys, certificate) as loading:
            if loads_first:
                await asyncio.wait({loading})
                await _retry(registry, settings.trial_seconds)
            if others_serve:
                await _until_ready(lifecycle, metrics)
            if rpc is not None:
                await rpc.start()
                lifecycle.when_closed = rpc.begin_to_stop  # it drains while HTTP does
            metrics.flush()  # a replica that starts next asks them whether this one is ready
            yield
            if rpc is not None:
                await rpc.stop()
        await registry.close()
        metrics.flush()
        if tracing is not None:
            await asyncio.to_thread(tracing.close)

    app = _fastapi(registry, metrics, lifecycle, settings, lifespan)
    document = cache(lambda: openapi_of(app, described(), settings, asks_for_keys=keys is not None))
    # FastAPI's own way to replace it
    app.openapi = lambda: with_examples(document(), registry.manifests())  # type: ignore[method-assign]
    dispatcher = Dispatcher(  # around FastAPI, so that FastAPI costs the operations nothing
        app,
        Handler(registry, metrics, settings),
        RemoteVae(registry, metrics, settings),
        OpenInference(plane, metrics, settings),
        metrics,
        settings,
        budget,
        lifecycle,
        keys,
    )
    return Service(dispatcher if tracing is None else tracing.around(dispatcher), lifecycle, certificate)


def _fastapi(
    registry: Registry,
    metrics: Metrics,
    lifecycle: Lifecycle,
    settings: Settings,
    lifespan: Callable[[FastAPI], AbstractAsyncContextManager[None]],
) -> FastAPI:
    """Return the FastAPI app: the catalogue, the probes, the page and the documentation."""
    app = FastAPIOffline(
        title="Pushforward",
        version=release(),
        summary="Samples, interpolates, reconstructs and scores with published VAEs and GANs.",
        license_info={"name": "Apache License 2.0", "identifier": "Apache-2.0"},
        lifespan=lifespan,
        redoc_url=None,
        redirect_slashes=False,
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
    )
    app.include_router(catalogue_router(registry, settings))
    app.include_router(probes_router(registry, metrics, lifecycle))
    if settings.page:
        app.include_router(page_router())
    else:
        app.add_api_route("/", _home, include_in_schema=False)
    if settings.root_path:
        app.add_api_route(settings.root_path, _with_slash, include_in_schema=False)
    for kind in (errors.ServiceError, HTTPException, RequestValidationError, Exception):
        app.add_exception_handler(kind, _problem)
    return app


def _tracing(settings: Settings) -> Tracing | None:
    if not settings.traces:
        return None
    from service.observe.tracing import Tracing

    return Tracing()


def _rpc_server(
    plane: DataPlane,
    metrics: Metrics,
    settings: Settings,
    budget: ByteBudget,
    keys: Keys | None,
    certificate: Certificate | None,
) -> RpcServer | None:
    if settings.grpc_port is None:
        return None
    # else each broken header of a client is a line of the log, in gRPC's own style
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    try:
        from service.api.open_inference.rpc import RpcServer
    except ImportError as error:
        raise errors.NotEnabled(
            "--grpc-port needs the extra `grpc`: pip install 'pushforward[grpc]'"
        ) from error
    return RpcServer(plane, metrics, settings, budget, keys, certificate)


def _show_state(metrics: Metrics, settings: Settings, lifecycle: Lifecycle, budget: ByteBudget) -> None:
    """Set the metrics of the machine, and have those of the service's state follow it."""
    metrics.gpu_present.set(has_gpu())
    metrics.cores.set(settings.own_cores)
    metrics.buffered(SampledGauge(metrics.ready, lambda: lifecycle.ready))
    metrics.buffered(SampledGauge(metrics.unready, lambda: not lifecycle.ready))
    metrics.buffered(SampledGauge(metrics.inflight_bytes, lambda: budget.used))


async def _home(request: Request) -> RedirectResponse:
    return RedirectResponse(f"{request.scope['root_path']}/docs")


async def _with_slash(request: Request) -> RedirectResponse:
    """Redirect from the prefix alone, since the links of the page are relative to the prefix and a slash."""
    return RedirectResponse(f"{request.scope['root_path']}/")


async def _problem(request: Request, error: Exception) -> Response:
    """Answer the errors of FastAPI's own routes in the form that the operations use."""
    status, headers, body = problem(_translated(error), request.scope[REQUEST_ID])
    response = Response(body, status)
    response.raw_headers += headers
    return response


def _translated(error: Exception) -> Exception:
    if isinstance(error, RequestValidationError):
        return errors.Unfit("the request does not fit this path")
    if not isinstance(error, HTTPException):
        return error
    if error.status_code == 405:
        allowed = tuple((error.headers or {}).get("Allow", "GET").split(", "))
        return errors.MethodNotAllowed(f"this path takes {' and '.join(allowed)}", allowed=allowed)
    if error.status_code == 404:
        return errors.UnknownRoute("there is no such path; /docs lists them all")
    if 400 <= error.status_code < 500:
        return errors.Malformed("the request cannot be read")
    return errors.ServiceError("the service failed on this request")


@asynccontextmanager
async def _working(
    registry: Registry,
    metrics: Metrics,
    settings: Settings,
    document: Callable[[], object],
    keys: Keys | None,
    certificate: Certificate | None,
) -> AsyncIterator[asyncio.Task[None]]:
    """Load the models, and follow all that may change, while the block runs; gives the task that loads."""
    loading = _task("load models", _load(registry, document))
    following = _task("follow the models folder", _follow(registry, metrics, settings, loading))
    tasks = [loading, following, _task("flush metrics", metrics.flush_periodically())]
    if keys is not None:
        tasks.append(_task("follow the file of keys", keys.follow()))
    if certificate is not None:
        tasks.append(_task("follow the certificate", certificate.follow()))
    yield loading
    for task in tasks:
        task.cancel()
    await asyncio.wait({following, loading})  # ends their trial process, if there is one


def _task(name: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    """Begin some work beside requests; if it fails, the log says so."""
    task = asyncio.create_task(work, name=name)
    task.add_done_callback(_log_failure)
    return task


def _log_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("the task to %s stopped", task.get_name(), exc_info=error)


async def _load(registry: Registry, document: Callable[[], object]) -> None:
    await registry.start()
    # the OpenAPI document is made in a thread; the first request for it would hold the event loop
    await asyncio.to_thread(document)
    # The objects made so far stay, and requests leave no cycles behind. Collections over all objects would
    # delay some requests by tens of milliseconds.
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000)


async def _retry(registry: Registry, seconds: float) -> None:
    """Return once a version is loaded, or none may be soon, or after about so many seconds."""
    for _ in range(math.ceil(seconds / _RETRY_SECONDS)):
        if not await registry.retry():
            break
        await asyncio.sleep(_RETRY_SECONDS)


async def _until_ready(lifecycle: Lifecycle, metrics: Metrics) -> None:
    """Return once the process can take requests, or is to stop, or no other process can take any either."""
    told = False
    while not (lifecycle.ready or lifecycle.draining) and await asyncio.to_thread(metrics.is_any_ready):
        if not told:
            log.error("no connections are taken before this process is ready; the others answer")
        told = True
        await asyncio.sleep(_RETRY_SECONDS)


async def _follow(
    registry: Registry, metrics: Metrics, settings: Settings, loading: asyncio.Task[None]
) -> None:
    await asyncio.wait({loading})
    if settings.poll_seconds:
        await watch(registry, metrics, settings.poll_seconds)
