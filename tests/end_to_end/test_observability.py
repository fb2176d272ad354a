"""The reports of a running service on itself: metrics on a port of their own, and logs as JSON."""

import json
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as openmetrics_families,
)
from prometheus_client.parser import text_string_to_metric_families

from tests import toy
from tests.serving import RunningService, metric_sum, running_service
from tests.toy import publish_toy
from tests.waiting import wait_until

SECRET = "a-word-that-only-the-client-knows"


@pytest.fixture(scope="module")
def toys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("toys")
    publish_toy(folder)
    publish_toy(folder, "poisoned-vae", poisoned=True)
    return folder


@pytest.fixture(scope="module")
def observed(toys: Path) -> Iterator[RunningService]:
    with running_service(
        toys, "--metrics-port", "0", "--log-format", "json", "--log-level", "debug"
    ) as service:
        yield service


def test_the_metrics_port_tells_what_the_api_does(observed: RunningService) -> None:
    def exposed(answer: httpx.Response) -> set[tuple[str, frozenset[tuple[str, str]]]]:
        families = text_string_to_metric_families(answer.text)
        samples = (sample for family in families for sample in family.samples)
        return {(sample.name, frozenset(sample.labels.items())) for sample in samples}

    for _ in range(2):  # the first is counted in the second
        of_api = exposed(observed.client.get("/metrics"))
    answer = httpx.get(observed.metrics_url)
    assert answer.status_code == 200
    assert exposed(answer) == of_api
    assert httpx.post(observed.metrics_url).status_code == 405


def test_the_metrics_port_speaks_openmetrics_where_it_is_asked_for(observed: RunningService) -> None:
    answer = httpx.get(
        observed.metrics_url, headers={"accept": "application/openmetrics-text; version=1.0.0"}
    )
    assert answer.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert any(family.name == "pushforward_ready" for family in openmetrics_families(answer.text))  # type: ignore[no-untyped-call]


def test_clients_of_the_metrics_port_that_leave_before_the_answer_are_not_logged(toys: Path) -> None:
    with running_service(toys, "--metrics-port", "0") as service:
        url = httpx.URL(service.metrics_url)
        for _ in range(20):
            with socket.create_connection((url.host, url.port or 0)) as leaving:
                leaving.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                leaving.sendall(b"GET /metrics HTTP/1.1\r\nHost: here\r\n\r\n")
        wait_until(lambda: is_answered(url))  # too many at once are closed
    assert [line for line in service.lines if "Traceback" in line or "failed" in line] == []


def is_answered(url: httpx.URL) -> bool:
    try:
        return httpx.get(url).status_code == 200
    except httpx.TransportError:
        return False


def test_the_metrics_tell_that_the_event_loop_runs(observed: RunningService) -> None:
    def stamp() -> float:
        return metric_sum(httpx.get(observed.metrics_url).text, "pushforward_event_loop_timestamp_seconds")

    first = stamp()
    wait_until(lambda: stamp() > first)


def test_a_service_without_models_is_alive_but_not_ready_and_its_metrics_say_so(tmp_path: Path) -> None:
    with running_service(tmp_path, "--metrics-port", "0") as service:
        assert service.client.get("/healthz").status_code == 200
        ready = service.client.get("/readyz")
        assert (ready.status_code, ready.json()["status"]) == (503, "empty")
        assert "\npushforward_ready 0.0\n" in httpx.get(service.metrics_url).text


def test_readiness_in_the_metrics_is_that_of_the_probe(observed: RunningService) -> None:
    assert observed.client.get("/readyz").status_code == 200
    assert observed.metric("pushforward_ready") == 1


def test_a_first_error_is_seen_by_a_rate_because_its_series_was_there_before(
    observed: RunningService,
) -> None:
    series = 'http_requests_total{code="500",method="POST",route="/v1/models/{model}/decode"} 0.0\n'
    assert f"\npushforward_{series}" in observed.client.get("/metrics").text


def test_labels_never_come_from_a_client(observed: RunningService) -> None:
    observed.client.get(f"/{SECRET}")
    observed.client.get(f"/v1/models/{SECRET}/sample")
    observed.client.request(SECRET.upper().replace("-", ""), "/v1/models")
    assert SECRET not in observed.client.get("/metrics").text.lower()


def test_p_values_are_counted_item_by_item(observed: RunningService) -> None:
    before = observed.metric("pushforward_p_value_count", model="toy-vae")
    observed.client.post("/v1/models/toy-vae/score", json={"inputs": toy.items(5).tolist()})
    assert observed.metric("pushforward_p_value_count", model="toy-vae") == before + 5


def test_every_line_of_the_log_is_json_and_names_its_request(observed: RunningService) -> None:
    observed.client.post(
        "/v1/models/poisoned-vae/decode",
        json={"latents": [[9.0, 9.0]]},
        headers={"x-request-id": "the-culprit"},
    )
    observed.wait_for("the-culprit")
    records = [json.loads(line) for line in observed.lines]
    assert {"time", "level", "logger", "process", "message"} <= set.intersection(*map(set, records))
    (answered,) = [one for one in records if one.get("request_id") == "the-culprit" and "status" in one]
    assert (answered["method"], answered["route"]) == ("POST", "/v1/models/{model}/decode")


def test_no_log_line_repeats_what_a_client_sent(observed: RunningService) -> None:
    observed.client.post("/v1/models/toy-vae/decode", json={SECRET: SECRET})
    observed.client.post("/v1/models/toy-vae/decode", content=SECRET)
    observed.client.get(f"/v1/models/{SECRET}/sample?{SECRET}={SECRET}", headers={"x-word": SECRET})
    observed.client.get("/healthz", headers={"x-request-id": "the-last"})
    observed.wait_for("the-last")
    assert SECRET not in "".join(observed.lines)


def test_a_metrics_port_in_use_is_refused_in_one_line(observed: RunningService, toys: Path) -> None:
    taken = observed.metrics_url.split(":")[-1].removesuffix("/metrics")
    service = RunningService(toys, "--metrics-port", taken)
    assert service.process.wait(timeout=60) == 2
    service.wait_until_all_are_gone()
    assert len(service.lines) == 1
    assert f"port {taken}" in service.lines[0]
    service.stop()
