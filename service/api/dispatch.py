"""The outermost ASGI app: it routes to the operations of `/v1`, to `/v2`, or to the FastAPI app.

It gives every answer a request id, checks keys, and counts the answers.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from service.api.body import ByteBudget
from service.api.deadline import ClientGone, ScopeSweeper
from service.api.exchange import SURPLUS, Exchange, request_ids
from service.api.keys import Keys
from service.api.keys import Scope as KeyScope
from service.api.open_inference.rest import OpenInference, is_open_inference, is_probe, scope_of
from service.api.probes import Lifecycle
from service.api.problems import open_inference_error
from service.api.remote_vae import RemoteVae
from service.api.v1.handler import Handler
from service.errors import Busy, Draining, UnknownRoute
from service.observe.metrics import Metrics
from service.settings import Settings

REQUEST_ID: Final = "pushforward.request_id"
"""Key of a scope for its request id, which FastAPI's routes read."""

_EXPOSED: Final = (
    b"access-control-expose-headers",
    b"etag, retry-after, server-timing, x-request-id, x-pushforward-model, x-pushforward-version, "
    b"x-pushforward-seed, x-pushforward-offset, x-pushforward-acceptance-rate, "
    b"x-pushforward-effective-sample-size, x-pushforward-unfilled, x-pushforward-conversions, "
    b"inference-header-content-length",
)
_PREFLIGHT: Final = (
    (b"access-control-allow-methods", b"GET, HEAD, POST"),
    (
        b"access-control-allow-headers",
        b"authorization, content-encoding, content-type, inference-header-content-length, x-api-key, "
        b"x-request-id, x-request-timeout-seconds",
    ),
    (b"access-control-max-age", b"600"),
)
log = logging.getLogger(__name__)


class Dispatcher:
    """Routes requests to the operations of `/v1`, to `/v2`, or to the FastAPI app; counts and logs them."""

    def __init__(
        self,
        app: ASGIApp,
        handler: Handler,
        remote_vae: RemoteVae,
        open_inference: OpenInference,
        metrics: Metrics,
        settings: Settings,
        budget: ByteBudget,
        lifecycle: Lifecycle,
        keys: Keys | None = None,
    ) -> None:
        self._app = app
        self._keys = keys
        self._open_inference = open_inference
        self._handler = handler
        self._remote_vae = remote_vae
        self._metrics = metrics
        self._budget = budget
        self._lifecycle = lifecycle
        self._root = settings.root_path
        self._origins = settings.origins
        self._logs = settings.log_requests or log.isEnabledFor(logging.DEBUG)
        self._hidden = frozenset(
            path
            for path, is_public in (
                ("/metrics", settings.public_metrics),
                ("/docs", settings.public_docs),
                ("/docs/oauth2-redirect", settings.public_docs),
                ("/openapi.json", settings.public_docs),
            )
            if not is_public
        )
        self._sweeper: ScopeSweeper | None = None
        self._fresh_id = request_ids()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if self._sweeper is None:
            self._sweeper = ScopeSweeper(asyncio.get_running_loop())
        exchange = Exchange(scope, receive, send, self._metrics, self._sweeper, self._fresh_id, self._budget)
        exchange.is_last = self._lifecycle.draining
        path = scope["path"]
        if self._root and path.startswith(f"{self._root}/"):  # the proxy has not removed it
            path = exchange.scope["path"] = path[len(self._root) :]
        is_v2 = is_open_inference(path)
        if is_v2:
            exchange.problem = open_inference_error
        self._metrics.inflight_requests += 1
        started_at = time.perf_counter()
        try:
            if SURPLUS in scope:
                self._check_probe(exchange, path)
            if self._origins and await self._is_preflight(exchange):
                return
            if self._keys is not None and (path.startswith("/v1/") or (is_v2 and not is_probe(path))):
                self._check_key(exchange, scope_of(path))
            if is_v2:
                await self._open_inference.serve(exchange)
            elif not (await self._handler.serve(exchange) or await self._remote_vae.serve(exchange)):
                self._check_public(exchange, path)
                exchange.scope[REQUEST_ID] = exchange.request_id
                if self._root:  # which ASGI's `path` includes
                    exchange.scope.update(root_path=self._root, path=self._root + path)
                await self._app(exchange.scope, exchange.receive, exchange.send)
        except ClientGone:
            exchange.status = 499  # never sent; the convention for a client that closed
            self._metrics.rejected.labels("client_gone").inc()
        except asyncio.CancelledError:  # the server gave up waiting for the requests in flight
            await exchange.fail(Draining("the service is shutting down"))
        except Exception as error:
            await exchange.fail(error)
        finally:
            self._metrics.inflight_requests -= 1
            exchange.release()
            exchange.count()
            if self._logs:
                exchange.log(time.perf_counter() - started_at)

    def _check_key(self, exchange: Exchange, needed: KeyScope) -> None:
        assert self._keys is not None
        given = exchange.header(b"authorization"), exchange.header(b"x-api-key")
        exchange.key = self._keys.check(*given, needed).name
        self._metrics.uses_of(exchange.key).add()

    def _check_probe(self, exchange: Exchange, path: str) -> None:
        """Refuse all but probes, and give the descriptor of the connection back soon."""
        exchange.is_last = True
        if not (is_probe(path) or path == "/healthz" or path == "/readyz" or path.startswith("/readyz/")):
            raise Busy("there are as many connections as there may be; try again")

    def _check_public(self, exchange: Exchange, path: str) -> None:
        if path not in self._hidden:
            return
        if path != "/metrics" or self._keys is None:
            raise UnknownRoute("there is no such path here")
        self._check_key(exchange, "metrics")

    async def _is_preflight(self, exchange: Exchange) -> bool:
        """Allow the page of a request to read the answer, if its origin may; return True if that was all.

        Source: https://fetch.spec.whatwg.org/#http-cors-protocol.
        """
        exchange.identify([(b"vary", b"Origin")])
        origin = exchange.header(b"origin")
        if origin in self._origins or (origin and "*" in self._origins):
            exchange.identify([(b"access-control-allow-origin", origin.encode("latin-1")), _EXPOSED])
        if exchange.scope["method"] != "OPTIONS" or not exchange.header(b"access-control-request-method"):
            return False
        exchange.route = "preflight"
        await exchange.send({"type": "http.response.start", "status": 204, "headers": _PREFLIGHT})
        await exchange.send({"type": "http.response.body", "body": b""})
        return True
