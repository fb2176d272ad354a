"""Which wire answers a request: an operation of `/v1`, the Open Inference Protocol, or the FastAPI app.

Plain ASGI around the FastAPI app. It gives every answer its request id and counts it.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from service.api.deadline import ClientGone, Watchman
from service.api.exchange import Exchange, request_ids
from service.api.keys import Keys
from service.api.open_inference.rest import OpenInference, is_open_inference
from service.api.v1.handler import Handler
from service.errors import Draining
from service.observe.metrics import Metrics

REQUEST_ID: Final = "pushforward.request_id"
"""Where FastAPI's routes find the request's id in their scope."""
_ASKS_FOR_KEYS = "/v1/"

log = logging.getLogger(__name__)


class Dispatcher:
    """Hands a request to `/v1`'s operations, to `/v2`, or to the FastAPI app; counts and logs its answer."""

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
        self._watchman: Watchman | None = None
        self._fresh_id = request_ids()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one ASGI connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if self._watchman is None:
            self._watchman = Watchman(asyncio.get_running_loop())
        exchange = Exchange(scope, receive, send, self._metrics, self._watchman, self._fresh_id)
        self._metrics.inflight.add(1)
        try:
            if self._keys is not None and scope["path"].startswith(_ASKS_FOR_KEYS):
                exchange.check_key(self._keys)
            if await self._operations.serve(exchange):
                pass
            elif is_open_inference(scope["path"]):
                await self._open_inference.serve(exchange)
            else:
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
