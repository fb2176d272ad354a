"""Liveness and readiness probes, and the metrics endpoint."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from service.lifecycle.registry import Registry
from service.observe.metrics import Metrics


class Health(BaseModel, use_attribute_docstrings=True):
    """The answer of a probe."""

    status: str
    """`ok` or `failing` (`/healthz`); `ready`, `loading`, `failed`, `empty` or `draining` (`/readyz`)."""
    detail: str = ""
    """The reason, if the status is neither `ok` nor `ready`; else empty."""


class Lifecycle:
    """The state of the process: set by the server, read by the probes."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self.draining = False

    def drain(self) -> None:
        """Mark the process as not ready; it keeps serving."""
        self.draining = True
        self._metrics.draining.set(1)


def probes_router(registry: Registry, metrics: Metrics, lifecycle: Lifecycle) -> APIRouter:
    """Return the routes `/healthz`, `/readyz` and `/metrics`."""
    router = APIRouter(tags=["probes"])

    @router.head("/healthz", include_in_schema=False)
    @router.get("/healthz", operation_id="healthz", responses={503: {"model": Health}})
    async def healthz(response: Response) -> Health:
        """Answer 200, or 503 if a batcher keeps dying: then the process should be restarted."""
        if registry.healthy:
            return Health(status="ok")
        response.status_code = 503
        return Health(status="failing", detail="a batcher keeps dying; restart the process")

    @router.head("/readyz", include_in_schema=False)
    @router.get("/readyz", operation_id="readyz", responses={503: {"model": Health}})
    async def readyz(response: Response) -> Health:
        """Answer 200 once every version is loaded, warmed up and tested; 503 before, and while stopping."""
        if registry.ready and not lifecycle.draining:
            return Health(status="ready")
        response.status_code = 503
        response.headers["retry-after"] = "1"
        if lifecycle.draining:
            return Health(status="draining")
        details = {
            "loading": "models are being loaded",
            "failed": "no version could be loaded; /v1/models says why",
            "empty": "there is no published version in the models folder",
        }
        return Health(status=registry.state, detail=details[registry.state])

    @router.get("/metrics", operation_id="metrics", response_class=Response)
    async def exposition(request: Request) -> Response:
        """Return the metrics in a Prometheus text format."""
        metrics.flush()
        accept = request.headers.get("accept", "")
        text, content_type = await asyncio.to_thread(metrics.exposition, accept)
        return Response(text, headers={"content-type": content_type})

    return router
