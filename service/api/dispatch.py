"""The outermost ASGI app: it routes to the operations of `/v1`, to `/v2`, or to the FastAPI app.

It gives every answer a request id, checks keys, and counts the answers.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from service.api.deadline import ClientGone, ScopeSweeper
from service.api.exchange import Exchange, request_ids
from service.api.keys import Keys
from service.api.open_inference.rest import OpenInference, is_open_inference, is_probe
from service.api.problems import open_inference_error
from service.api.v1.handler import Handler
from service.errors import Draining
from service.observe.metrics import Metrics

REQUEST_ID: Final = "pushforward.request_id"
"""Key of a scope for its request id, which FastAPI's routes read."""

log = logging.getLogger(__name__)


class Dispatcher:
    """Routes requests to the operations of `/v1`, to `/v2`, or to the FastAPI app; counts and logs them."""

    def __init__(
        self,
        app: ASGIApp,
        operations: Handler,
        open_inference: OpenInference,
        metrics: Metrics,
        keys: Keys | None = None,
    ) -> None:
        self._app = app
        self._keys = keys
        self._open_inference = open_inference
        self._operations = operations
        self._metrics = metrics
        self._logs = log.isEnabledFor(logging.DEBUG)
        self._sweeper: ScopeSweeper | None = None
        self._fresh_id = request_ids()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if self._sweeper is None:
            self._sweeper = ScopeSweeper(asyncio.get_running_loop())
        exchange = Exchange(scope, receive, send, self._metrics, self._sweeper, self._fresh_id)
        path = scope["path"]
        is_v2 = is_open_inference(path)
        if is_v2:
            exchange.problem = open_inference_error
        self._metrics.inflight.add(1)
        try:
            if self._keys is not None and (path.startswith("/v1/") or (is_v2 and not is_probe(path))):
                self._keys.check(exchange.header(b"authorization"), exchange.header(b"x-api-key"))
            if is_v2:
                await self._open_inference.serve(exchange)
            elif not await self._operations.serve(exchange):
                scope[REQUEST_ID] = exchange.request_id
                await self._app(scope, exchange.receive, exchange.send)
        except ClientGone:
            exchange.status = 499  # never sent; the convention for a client that closed
            self._metrics.rejected.labels("client_gone").inc()
        except asyncio.CancelledError:  # the server gave up waiting for the requests in flight
            await exchange.fail(Draining("the service is shutting down"))
        except Exception as error:
            await exchange.fail(error)
        finally:
            self._metrics.inflight.add(-1)
            exchange.count()
            if self._logs:
                exchange.log()
