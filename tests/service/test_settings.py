import os
import sys

import pytest
from pydantic import ValidationError

from service.settings import Settings, granted_cores, unknown_variable


def test_variables_of_the_environment_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PUSHFORWARD_MAX_BODY_BYTES", "1234")
    monkeypatch.setenv("PUSHFORWARD_DEVICE", "cpu")
    settings = Settings()
    assert (settings.max_body_bytes, settings.device) == (1234, "cpu")


def test_settings_are_frozen_and_closed() -> None:
    with pytest.raises(ValidationError):
        Settings(port=1).port = 2  # type: ignore[misc]
    with pytest.raises(ValidationError):
        Settings(colour="red")  # type: ignore[call-arg]


def test_every_setting_says_what_it_is() -> None:
    for name, field in Settings.model_json_schema()["properties"].items():
        assert field["description"], name
        if name.endswith("_seconds"):
            assert "long" in field["description"].lower(), name


def test_granted_cores_are_at_least_one_and_no_more_than_the_affinity() -> None:
    assert 1 <= granted_cores() <= len(os.sched_getaffinity(0))
    assert Settings(lanes=3).granted_lanes == 3
    assert Settings().granted_lanes == granted_cores()


def test_replicas_are_one_a_core_on_the_cpu_and_one_on_a_gpu_unless_they_are_given() -> None:
    assert Settings(device="cpu").replicas == granted_cores()
    assert Settings(device="cuda").replicas == 1
    assert Settings(device="cuda", processes=3).replicas == 3


@pytest.mark.parametrize("replicas", [2, 3, 64])
@pytest.mark.parametrize("max_waiting_rows", [100, 65_536])
def test_replicas_divide_what_bounds_the_service_and_nothing_that_bounds_a_request(
    replicas: int, max_waiting_rows: int
) -> None:
    whole = Settings(max_waiting_rows=max_waiting_rows)
    one = whole.for_one_replica(replicas, port=8001)
    most = min(whole.max_npy_inputs, max_waiting_rows)
    assert one.max_waiting_rows >= most  # a request that one process takes, each of several does
    assert one.max_waiting_rows * replicas < max(max_waiting_rows, most * replicas) + replicas
    assert 1 <= one.granted_lanes <= granted_cores()
    assert one.max_inflight_bytes * replicas <= whole.max_inflight_bytes
    changed = {"port", "cores", "lanes", "max_waiting_rows", "max_inflight_bytes"}
    assert one.model_dump(exclude=changed) == whole.model_dump(exclude=changed)


def test_lanes_that_are_given_are_those_of_each_replica() -> None:
    assert Settings(lanes=5).for_one_replica(2, port=8001).granted_lanes == 5


def test_several_processes_are_refused_where_ports_cannot_be_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(ValidationError, match="only Linux"):
        Settings(processes=2)
    assert Settings(device="cpu").replicas == 1


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("PUSHFORWARD_MAX_BODY_BYTE", "PUSHFORWARD_MAX_BODY_BYTES"),
        ("PUSHFORWARD_METRIC_PORT", "PUSHFORWARD_METRICS_PORT"),
        ("pushforward_modles", "PUSHFORWARD_MODELS"),
        ("PUSHFORWARD_KEYS", "PUSHFORWARD_KEYS_FILE"),
        ("PUSHFORWARD_SERVICE_PORT_HTTP", "enableServiceLinks"),
        ("PUSHFORWARD_PORT_80_TCP_ADDR", "enableServiceLinks"),
    ],
)
def test_a_variable_that_is_no_setting_is_told_with_the_nearest(name: str, told: str) -> None:
    flaw = unknown_variable([name, "PATH"])
    assert name in flaw
    assert told in flaw


def test_variables_of_settings_and_of_the_client_are_known() -> None:
    known = [f"PUSHFORWARD_{name.upper()}" for name in Settings.model_fields]
    assert unknown_variable([*known, "PUSHFORWARD_URL", "PUSHFORWARD_KEY", "pushforward_port", "PUSH"]) == ""


def test_two_ports_with_one_number_are_named() -> None:
    with pytest.raises(ValidationError, match="port and metrics-port are both 9000"):
        Settings(port=9000, metrics_port=9000)
    with pytest.raises(ValidationError, match="metrics-port and grpc-port are both 9000"):
        Settings(metrics_port=9000, grpc_port=9000)
    assert Settings(port=0, metrics_port=0, grpc_port=0, processes=1).port == 0


def test_localhost_is_a_name_of_the_loopback_address() -> None:
    assert Settings(host="localhost").host == "127.0.0.1"


@pytest.mark.parametrize(
    "origin", ["example.com", "https://a.example/", "null", "https://a.example https://b.example"]
)
def test_what_is_no_origin_is_refused(origin: str) -> None:
    with pytest.raises(ValidationError):
        Settings(allow_origin=origin)
