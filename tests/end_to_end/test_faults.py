"""Bad input that no other file of tests has: marks before JSON, keys that come twice, paths that lead out."""

import ast
import json
from pathlib import Path

import httpx
import numpy as np
import pytest

from tests import toy
from tests.conftest import REPOSITORY
from tests.serving import RunningService, running_service

TOY = "/v1/models/toy-vae"
INFER = "/v2/models/toy-vae.sample/infer"
SAMPLE = b'{"seed": 7}'
TENSOR = b'"shape": [1], "datatype": "INT64", "data": [7]'
INFERENCE = b'{"inputs": [{"name": "seed", %b}, {"name": "index", %b}]}' % (TENSOR, TENSOR)


@pytest.mark.parametrize(("path", "body"), [(f"{TOY}/sample", SAMPLE), (INFER, INFERENCE)])
def test_the_mark_of_utf_8_is_skipped_and_utf_16_is_refused_by_its_name(
    client: httpx.Client, path: str, body: bytes
) -> None:
    plain = client.post(path, content=body)
    assert plain.status_code == 200, plain.text
    assert client.post(path, content=b"\xef\xbb\xbf" + body).content == plain.content
    wide = client.post(path, content=body.decode().encode("utf-16"))
    assert wide.status_code == 400
    assert "UTF-16" in wide.text


def test_of_a_key_that_comes_twice_the_last_one_counts(client: httpx.Client) -> None:
    twice = client.post(f"{TOY}/sample", content=b'{"seed": 1, "seed": 2}')
    assert twice.json() == client.post(f"{TOY}/sample", json={"seed": 2}).json()


@pytest.mark.parametrize("text", ["\\u0000", "\\ud83d\\ude00", "\\uffff"])
def test_a_name_of_strange_characters_is_refused(client: httpx.Client, text: str) -> None:
    response = client.post(f"{TOY}/sample", content=b'{"method": "%b"}' % text.encode())
    assert (response.status_code, response.json()["code"]) == (422, "unfit")


def test_minus_naught_is_naught(client: httpx.Client) -> None:
    assert client.post(f"{TOY}/sample", content=b'{"seed": -0}').json()["seed"] == 0


@pytest.mark.living
def test_no_path_leads_out_of_the_models_folder(tmp_path: Path) -> None:
    models = tmp_path / "models"
    toy.publish_toy(models)
    toy.publish_toy(tmp_path / "other", "canary")
    with running_service(models) as service:
        for name in (
            "../other/canary",
            "..%2fother%2fcanary",
            "%2e%2e%2fother%2fcanary",
            "TOY-VAE",
            "toy-vae%00",
        ):
            for path in (f"/v1/models/{name}/sample", f"/v2/models/{name}.sample/infer"):
                response = service.client.post(path, content=b"{}")
                assert response.status_code == 404, path
                assert "canary" not in response.text.replace(name, "")
        assert "canary" not in "".join(service.lines)


def test_a_path_between_equal_ends_is_that_point(client: httpx.Client) -> None:
    ends = {"from": {"seed": 1}, "to": {"seed": 1}, "steps": 4}
    samples = np.array(client.post(f"{TOY}/interpolate", json=ends).json()["samples"])
    alone = np.array(client.post(f"{TOY}/sample", json={"seed": 1}).json()["samples"])
    np.testing.assert_array_equal(samples, np.repeat(alone, 4, axis=0))


def test_methods_hosts_and_ranges_that_mean_nothing_here_change_nothing(client: httpx.Client) -> None:
    path = f"{TOY}/sample?seed=7"
    plain = client.get(path)
    for headers in ({"host": "evil.example"}, {"range": "bytes=0-3"}, {"origin": "https://evil.example"}):
        other = client.get(path, headers=headers)
        assert (other.status_code, other.content) == (200, plain.content)
        assert "access-control-allow-origin" not in other.headers
    for method in ("TRACE", "OPTIONS", "PATCH"):
        response = client.request(method, path)
        assert (response.status_code, response.headers["allow"]) == (405, "GET, POST, HEAD")


def test_no_time_of_the_calendar_decides_anything() -> None:
    """A clock that is set meanwhile changes reports only, but no deadline, delay or order."""
    told = {  # statistics, metrics and traces
        "service/api/exchange.py",
        "service/api/open_inference/model.py",
        "service/observe/accumulators.py",
        "service/observe/metrics.py",
        "service/observe/timing.py",
        "service/observe/tracing.py",
    }
    found = set()
    for path in (REPOSITORY / "service").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and node.attr in ("time", "time_ns", "now", "utcnow", "today"):
                owner = node.value
                if isinstance(owner, ast.Name) and owner.id in ("time", "datetime", "date"):
                    found.add(str(path.relative_to(REPOSITORY)))
    assert found <= told


@pytest.mark.living
def test_told_twice_to_stop_a_single_process_ends_at_once(models: Path) -> None:
    service = RunningService(models, "--drain-delay-seconds", "600")
    try:
        service.wait_until_ready()
        service.process.terminate()
        assert service.client.get("/healthz").status_code == 200  # it serves on for the delay
        service.process.terminate()
        assert service.process.wait(timeout=60) == 0
    finally:
        service.process.kill()
        service.stop()


def test_a_message_that_is_none_leaves_no_trace_in_the_log(service: RunningService) -> None:
    import grpc

    address = service.grpc_address
    before = len(service.lines)
    with grpc.insecure_channel(address) as channel:
        infer = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        for body in (b"\xff" * 100, b"\x2a\xff\xff\xff\xff\x0f", json.dumps({"model_name": "x"}).encode()):
            with pytest.raises(grpc.RpcError) as raised:
                infer(body, timeout=30)
            assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert service.client.get("/healthz").status_code == 200
    assert not any("Traceback" in line for line in service.lines[before:])
