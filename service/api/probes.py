"""Liveness and readiness probes, and the metrics endpoint."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

from fastapi import APIRouter, Request, Response

from service.errors import UnknownModel
from service.format.documented import Documented
from service.lifecycle.registry import Registry
from service.observe.metrics import Metrics

_PAUSE_PER_SECOND: Final = 3.0
"""Seconds without an exposition of metrics after each second that one took."""
_EMPTY: Final = {
    False: "there is no published version in the models folder",
    True: "no version of the source could be fetched; /v1/models says why",
}
"""The reason why there is no version, by whether there are some that could not be fetched."""


class Health(Documented):
    """The answer of a probe."""

    status: str
    """`ok` or `failing` (`/healthz`); also `ready`, `loading`, `failed`, `empty`, `unloaded`, `draining`."""
    detail: str = ""
    """The reason, if the status is neither `ok` nor `ready`; else empty."""


class Lifecycle:
    """The state of the process: changed by the server, read by the probes of all protocols."""

    def __init__(self, registry: Registry, metrics: Metrics) -> None:
        self._registry = registry
        self._metrics = metrics
        self.draining = False
        self.when_closed: Callable[[], None] = lambda: None
        """Called once no new connections are to be taken."""

    @property
    def healthy(self) -> bool:
        """Return False while the process should be restarted."""
        return not self._registry.flaw

    @property
    def ready(self) -> bool:
        """Return True while the service takes requests."""
        return self._registry.ready and not self.draining

    def drain(self) -> None:
        """Mark the process as not ready; it keeps serving."""
        self.draining = True
        self._metrics.draining.set(1)


def probes_router(registry: Registry, metrics: Metrics, lifecycle: Lifecycle) -> APIRouter:
    """Return the routes `/healthz`, `/readyz`, `/readyz/{model}` and `/metrics`."""
    router = APIRouter(tags=["probes"])

    @router.get("/healthz", operation_id="healthz", responses={503: {"model": Health}})
    async def healthz(response: Response) -> Health:
        """Answer 200; or 503 if computations keep failing or one never ends: restart the process."""
        if not (flaw := registry.flaw):
            return Health(status="ok")
        response.status_code = 503
        return Health(status="failing", detail=f"{flaw}; restart the process")

    @router.get("/readyz", operation_id="readyz", responses={503: {"model": Health}})
    async def readyz(response: Response) -> Health:
        """Answer 200 once every model of the start can answer; 503 before, and while stopping."""
        details = {
            "loading": "models are being loaded",
            "failed": f"no version could be loaded of {', '.join(registry.lacking)}; /v1/models says why",
            "failing": f"{registry.flaw}; restart the process",
            "empty": registry.poll_failure or _EMPTY[bool(registry.unfetched)],
        }
        return _readiness(response, registry.state, details.get(registry.state, ""))

    @router.get("/readyz/{model}", operation_id="readyz_model", responses={503: {"model": Health}})
    async def readyz_model(model: str, response: Response) -> Health:
        """Answer 200 while a version of that model can answer; else 503."""
        try:
            entry = registry.entry(model)
        except UnknownModel as error:
            raise UnknownModel("there is no model of that name") from error  # a probe needs no key
        state = "ready" if entry.loaded is not None else entry.state
        return _readiness(response, state, entry.reason)

    def _readiness(response: Response, state: str, detail: str) -> Health:
        if state == "ready" and not lifecycle.draining:
            return Health(status="ready")
        response.status_code = 503
        response.headers["retry-after"] = "1"
        return Health(status="draining") if lifecycle.draining else Health(status=state, detail=detail)

    turn = asyncio.Lock()
    idle_until = 0.0

    @router.get("/metrics", operation_id="metrics", response_class=Response)
    async def exposition(request: Request) -> Response:
        """Return the metrics in a Prometheus text format."""
        nonlocal idle_until
        accept = request.headers.get("accept", "")
        async with turn:  # one at a time, and with pauses: it keeps the interpreter busy
            await asyncio.sleep(idle_until - time.monotonic())
            metrics.flush()
            began = time.monotonic()
            text, content_type = await asyncio.to_thread(metrics.exposition, accept)
            idle_until = time.monotonic() + _PAUSE_PER_SECOND * (time.monotonic() - began)
        return Response(text, headers={"content-type": content_type})

    return router
