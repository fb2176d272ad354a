"""Traces by OpenTelemetry: a span per request, with spans for its waiting, computing and encoding.

This needs the extra `traces`. OpenTelemetry's own variables choose the destination and the sampling:
OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_TRACES_SAMPLER, OTEL_SERVICE_NAME and the like.
"""

from __future__ import annotations

import os
import time
from http import HTTPStatus
from threading import Thread
from typing import Final

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, StatusCode, format_trace_id, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.types import ASGIApp, Receive, Scope, Send

from service.observe.metrics import release
from service.observe.timing import TRACE, Period, Trace

CLOSE_SECONDS: Final = 2.0
_TRACED: Final = ("/v1/", "/v2/")
"""Prefixes of traced paths; probes and scrapes would be most of the spans."""


class Tracing:
    """Makes spans of requests and sends them in a separate thread; spans that cannot be sent are dropped."""

    def __init__(self) -> None:
        name = os.environ.get("OTEL_SERVICE_NAME", "pushforward")
        resource = Resource.create({"service.name": name, "service.version": release()})
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("pushforward", release())
        self._propagator = TraceContextTextMapPropagator()

    def around(self, app: ASGIApp) -> ASGIApp:
        """Wrap the app so that every request of the API is traced."""

        async def traced(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http" or not scope["path"].startswith(_TRACED):
                await app(scope, receive, send)
                return
            trace = scope[TRACE] = Trace()
            began = time.time_ns()
            try:
                await app(scope, receive, send)
            finally:
                self._send_span(trace, self._parent(scope), Period(began, time.time_ns()))

        return traced

    def close(self) -> None:
        """Send the remaining spans, for at most `CLOSE_SECONDS`, so that the process ends in time."""
        last = Thread(target=self._provider.shutdown, name="send the last traces", daemon=True)
        last.start()
        last.join(CLOSE_SECONDS)

    def _parent(self, scope: Scope) -> Context:
        """Return the context of the caller's span, if the request names one (W3C Trace Context)."""
        carrier = {
            name.decode("latin-1"): value.decode("latin-1")
            for name, value in scope["headers"]
            if name in (b"traceparent", b"tracestate")
        }
        return self._propagator.extract(carrier, Context())

    def _send_span(self, trace: Trace, parent: Context, whole: Period) -> None:
        span = self._tracer.start_span(
            f"{trace.method} {trace.route}", parent, SpanKind.SERVER, start_time=whole.began
        )
        if span.is_recording():
            span.set_attributes(
                {
                    "http.request.method": trace.method,
                    "http.route": trace.route,
                    "http.response.status_code": trace.status,
                    "pushforward.request_id": trace.request_id,
                }
            )
            if trace.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
                span.set_status(StatusCode.ERROR)
            inside = set_span_in_context(span, Context())
            parts = {"queue": trace.timing.queue, "compute": trace.timing.compute, "encode": trace.encode}
            for name, periods in parts.items():
                for period in periods:
                    self._tracer.start_span(name, inside, start_time=period.began).end(period.ended)
            if trace.meter is not None:
                seconds = (whole.ended - whole.began) / 1e9
                trace.meter.exemplify(seconds, format_trace_id(span.get_span_context().trace_id))
        span.end(whole.ended)
