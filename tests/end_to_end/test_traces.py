"""Traces, as an OTLP receiver on loopback gets them from a running service."""

import re
import threading
from collections.abc import Iterator
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from queue import Queue
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from service.observe.timing import MOST_PERIODS, TracedTiming
from service.observe.tracing import CLOSE_SECONDS
from service.settings import Settings
from tests.serving import RunningService, running_service

pytestmark = pytest.mark.monitoring

SAMPLED = "00-{:032x}-00000000000000ab-01"
NOT_SAMPLED = "00-{:032x}-00000000000000ab-00"


class Receiver:
    """Takes OTLP over HTTP; `trace` waits for the spans of one trace."""

    def __init__(self) -> None:
        arriving = self._arriving = Queue[ExportTraceServiceRequest]()
        self.spans: list[Span] = []
        self.resource: dict[str, Any] = {}

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                assert self.path == "/v1/traces"
                body = self.rfile.read(int(self.headers["content-length"]))
                arriving.put(ExportTraceServiceRequest.FromString(body))
                answer = ExportTraceServiceResponse().SerializeToString()
                self.send_response(200)
                self.send_header("content-type", "application/x-protobuf")
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: Any) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def trace(self, number: int) -> dict[str, list[Span]]:
        """The spans of a trace by name, once that of its request, the last to end, is there."""
        while not any(span.kind == Span.SPAN_KIND_SERVER for span in self._of(number)):
            for part in self._arriving.get(timeout=60).resource_spans:
                self.resource = attributes(part.resource)
                self.spans += [span for scope in part.scope_spans for span in scope.spans]
        found: dict[str, list[Span]] = {}
        for span in self._of(number):
            found.setdefault(span.name, []).append(span)
        return found

    def _of(self, number: int) -> list[Span]:
        return [span for span in self.spans if span.trace_id == number.to_bytes(16, "big")]


def attributes(owner: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in owner.attributes}


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    thread = threading.Thread(target=receiver.server.serve_forever)
    thread.start()
    yield receiver
    receiver.server.shutdown()
    receiver.server.server_close()
    thread.join()


@pytest.fixture(scope="module")
def traced(receiver: Receiver, toys: Path) -> Iterator[RunningService]:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
        environment.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")  # milliseconds
        with running_service(toys, "--traces") as service:
            yield service


def ask(service: RunningService, traceparent: str, **body: Any) -> httpx.Response:
    headers = {"traceparent": traceparent, "x-request-id": "mine"}
    return service.client.post("/v1/models/toy-vae/sample", json=body, headers=headers)


def test_a_request_is_a_span_in_which_it_waits_is_computed_and_encoded(
    traced: RunningService, receiver: Receiver
) -> None:
    assert ask(traced, SAMPLED.format(1), count=1).status_code == 200
    spans = receiver.trace(1)
    name = "POST /v1/models/{model}/sample"
    assert spans.keys() == {name, "queue", "compute", "encode"}
    (whole,), (queue,), (compute,), (encode,) = (spans[each] for each in (name, "queue", "compute", "encode"))
    assert whole.parent_span_id == (0xAB).to_bytes(8, "big")
    assert {part.parent_span_id for part in (queue, compute, encode)} == {whole.span_id}
    times = [whole.start_time_unix_nano]
    for part in (queue, compute, encode):
        times += [part.start_time_unix_nano, part.end_time_unix_nano]
    times.append(whole.end_time_unix_nano)
    slack = 1_000_000  # the wall clock is read after the one that measures
    assert all(before <= after + slack for before, after in pairwise(times))
    assert attributes(whole) == {
        "http.request.method": "POST",
        "http.route": "/v1/models/{model}/sample",
        "http.response.status_code": 200,
        "pushforward.request_id": "mine",
    }
    assert receiver.resource["service.name"] == "pushforward"


def test_a_large_request_has_a_span_a_batch_up_to_a_bound(traced: RunningService, receiver: Receiver) -> None:
    ask(traced, SAMPLED.format(2), count=1000)
    assert 1 < len(receiver.trace(2)["compute"]) <= MOST_PERIODS
    ask(traced, SAMPLED.format(3), count=4096)
    assert len(receiver.trace(3)["compute"]) == MOST_PERIODS


def test_a_refused_request_has_its_status(traced: RunningService, receiver: Receiver) -> None:
    assert ask(traced, SAMPLED.format(4), count=-1).status_code == 422
    (span,) = receiver.trace(4)["POST /v1/models/{model}/sample"]
    assert attributes(span)["http.response.status_code"] == 422
    assert span.status.code != Status.STATUS_CODE_ERROR  # the client's, and not the service's


def test_what_the_caller_does_not_sample_is_not_sent_nor_are_probes(
    traced: RunningService, receiver: Receiver
) -> None:
    ask(traced, NOT_SAMPLED.format(5))
    traced.client.get("/healthz", headers={"traceparent": SAMPLED.format(6)})
    traced.client.get("/v1/models", headers={"traceparent": SAMPLED.format(7)})
    (name,) = receiver.trace(7)
    assert name == "GET /v1/models"
    assert {int.from_bytes(span.trace_id, "big") for span in receiver.spans}.isdisjoint({5, 6})


def test_a_bucket_names_a_trace_as_its_example_where_openmetrics_is_asked_for(traced: RunningService) -> None:
    ask(traced, SAMPLED.format(8))
    answer = traced.client.get("/metrics", headers={"accept": "application/openmetrics-text; version=1.0.0"})
    examples = {
        sample.exemplar.labels["trace_id"]
        for family in text_string_to_metric_families(answer.text)  # type: ignore[no-untyped-call]
        if family.name == "pushforward_request_duration_seconds"
        for sample in family.samples
        if sample.exemplar
    }
    assert f"{8:032x}" in examples
    assert "# {" not in traced.client.get("/metrics", headers={"accept": "text/plain"}).text


def test_a_receiver_that_is_not_there_costs_no_answer_and_little_time_at_the_end(
    toys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")  # where none listens
    with running_service(toys, "--traces") as service:
        assert ask(service, SAMPLED.format(9)).status_code == 200
        service.process.terminate()
        assert service.process.wait(timeout=60) == 0
    began, ended = (
        datetime.strptime(service.wait_for(rf"(\S+ [\d:,]+) INFO .*{event}")[1], "%Y-%m-%d %H:%M:%S,%f")
        for event in ("Waiting for application shutdown", "Finished server process")
    )
    assert (ended - began).total_seconds() < 2 * CLOSE_SECONDS


def test_every_replica_traces(receiver: Receiver, toys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
    monkeypatch.setenv("OTEL_SERVICE_NAME", "renamed")
    with running_service(toys, "--traces", processes=2) as service:
        for number in range(16):
            parent = {"traceparent": SAMPLED.format(100 + number)}
            httpx.post(f"{service.url}/v1/models/toy-vae/sample", json={}, headers=parent)
    for number in range(16):  # they were sent at the latest before the service ended
        assert "compute" in receiver.trace(100 + number)
    assert receiver.resource["service.name"] == "renamed"


def test_without_the_extra_traces_are_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.settings.find_spec", lambda _: None)
    with pytest.raises(ValueError, match=re.escape("pip install 'pushforward[traces]'")):
        Settings(traces=True)
    assert Settings(traces=False).traces is False


def test_times_that_are_noted_add_up_as_they_do_without_traces() -> None:
    timing = TracedTiming()
    for seconds in (0.5, 0.25):
        timing.add_batch(seconds, 1.0)
        timing.add_wait(seconds)
    assert (timing.compute_seconds, timing.queue_seconds) == (0.75, 0.75)
    assert [round((each.ended - each.began) / 1e9, 6) for each in timing.compute] == [0.5, 0.25]
