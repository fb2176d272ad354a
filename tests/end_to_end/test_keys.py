"""A service that asks for keys, over every wire it has."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import grpc
import httpx
import pytest
import tritonclient.grpc as triton

from tests.serving import RunningService, running_service
from tests.toy import publish_toy
from tests.waiting import wait_until

KEY = "a-key-that-was-given-out"
BEARER = {"authorization": f"Bearer {KEY}"}
NAMED = "another-key-of-the-shop"
SAMPLE = "/v1/models/toy-vae/sample"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    folder = tmp_path_factory.mktemp("guarded")
    publish_toy(folder / "models")
    (folder / "keys").write_text(f"{KEY}\n{NAMED} shop infer\n")
    options = ("--grpc-port", "0", "--repository-control", "--log-requests")
    with running_service(folder / "models", "--keys-file", str(folder / "keys"), *options) as service:
        yield service


@pytest.mark.parametrize(
    "path", ["/v1/models", "/v1/models/toy-vae", SAMPLE, "/v1/nothing", "/v2", "/v2/models/toy-vae.sample"]
)
def test_what_is_asked_without_a_key_or_with_another_is_not_answered(
    guarded: RunningService, path: str
) -> None:
    missing = guarded.client.get(path)
    assert (missing.status_code, missing.headers["www-authenticate"]) == (401, "Bearer")
    unknown = guarded.client.get(path, headers={"x-api-key": "not-one-of-the-keys"})
    assert unknown.status_code == 403
    for answer in (missing, unknown):
        document = answer.json()
        assert ("error" in document) == path.startswith("/v2")
        assert "key" in document.get("error", document.get("code"))
    known = guarded.client.get(path, headers=BEARER)
    assert known.status_code == (404 if path == "/v1/nothing" else 200)


@pytest.mark.parametrize(
    "path",
    ["/healthz", "/readyz", "/metrics", "/docs", "/openapi.json", "/v2/health/live", "/v2/health/ready"],
)
def test_probes_metrics_and_documentation_need_none(guarded: RunningService, path: str) -> None:
    assert guarded.client.get(path).status_code == 200


def test_what_needs_no_key_names_no_model(guarded: RunningService) -> None:
    answered = guarded.client.get("/readyz/absent")
    assert answered.status_code == 404
    assert "toy-vae" not in answered.text


def test_no_shared_cache_keeps_an_answer_that_needs_a_key(guarded: RunningService) -> None:
    answer = guarded.client.get("/v1/models/toy-vae/versions/1/sample?seed=7", headers=BEARER)
    assert answer.headers["cache-control"] == "private, max-age=31536000, immutable"


def test_a_body_is_not_waited_for_without_a_key(guarded: RunningService) -> None:
    answer = guarded.client.post(SAMPLE, content=iter([b"{" * 10_000]))
    assert answer.status_code == 401
    assert answer.headers["connection"] == "close"
    assert guarded.client.post(SAMPLE, json={"seed": 7}, headers=BEARER).status_code == 200


def test_the_standard_client_sends_a_key_over_grpc(guarded: RunningService) -> None:
    address = guarded.grpc_address
    with triton.InferenceServerClient(address) as client:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("toy-vae.sample", headers=BEARER)
        for headers, code in (
            (None, grpc.StatusCode.UNAUTHENTICATED),
            ({"x-api-key": "not-one-of-the-keys"}, grpc.StatusCode.PERMISSION_DENIED),
        ):
            with pytest.raises(triton.InferenceServerException) as refusal:
                client.get_model_metadata("toy-vae.sample", headers=headers)
            assert refusal.value.status() == str(code)


def test_a_file_without_keys_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("# none yet\n")
    command = [sys.executable, "-m", "service", "--models", str(tmp_path), "--port", "0", "--keys-file"]
    done = subprocess.run([*command, str(tmp_path / "keys")], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "holds no key" in done.stderr


def test_the_documentation_tells_of_keys_only_where_they_are_needed(
    guarded: RunningService, service: RunningService
) -> None:
    told = json.loads(guarded.client.get("/openapi.json").content)
    assert told["components"]["securitySchemes"]["key"]["scheme"] == "bearer"
    assert told["security"] == [{"key": []}]
    assert httpx.get(f"{service.url}/openapi.json").json()["security"] == []


def test_a_key_without_the_scope_may_not_load_models_but_may_use_them(guarded: RunningService) -> None:
    load = "/v2/repository/models/toy-vae/load"
    refused = guarded.client.post(load, json={}, headers={"x-api-key": NAMED})
    assert (refused.status_code, "scope control" in refused.json()["error"]) == (403, True)
    assert guarded.client.post(load, json={}, headers=BEARER).status_code == 200
    assert guarded.client.post("/v2/repository/index", headers={"x-api-key": NAMED}).status_code == 200


def test_a_line_for_every_answer_names_what_was_asked_and_by_whom(guarded: RunningService) -> None:
    headers = {"x-api-key": NAMED, "x-request-id": "the-logged-one"}
    answer = guarded.client.post(SAMPLE, json={"seed": 7, "count": 3}, headers=headers)
    guarded.wait_for("the-logged-one")
    (line,) = [line for line in guarded.lines if "the-logged-one" in line]
    for told in (
        "method=POST", "route=/v1/models/{model}/sample", "status=200", "model=toy-vae", "version=1",
        "rows=3", f"bytes={len(answer.content)}", "milliseconds=", "key=shop",
    ):  # fmt: skip
        assert told in line
    assert NAMED not in "".join(guarded.lines)


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/none/sample", "/docs", "/v2", "/none"])
def test_a_line_of_the_log_has_the_bytes_of_every_kind_of_answer(guarded: RunningService, path: str) -> None:
    name = f"logged{path.replace('/', '-')}"
    answer = guarded.client.get(path, headers=BEARER | {"x-request-id": name})
    assert f" bytes={len(answer.content)} " in guarded.wait_for(f"request_id={name} .*")[0]


def test_the_metrics_count_the_requests_of_each_key_by_its_name(guarded: RunningService) -> None:
    def used() -> dict[str, float]:
        text = guarded.client.get("/metrics").text
        return {key: float(n) for key, n in re.findall(r'key_uses_total{key="(\w+)"} (\S+)', text)}

    before = used().get("shop", 0.0)
    for key in (NAMED, KEY, "not-one-of-the-keys"):
        guarded.client.post(SAMPLE, json={"seed": 7}, headers={"x-api-key": key})
    wait_until(lambda: used().get("shop", 0.0) == before + 1)
    assert used().keys() == {"shop", "unnamed"}


def test_metrics_that_are_not_public_need_a_key_that_allows_them(tmp_path: Path) -> None:
    publish_toy(tmp_path / "models")
    (tmp_path / "keys").write_text(f"{KEY} scraper metrics\n{NAMED} shop infer\n")
    options = ("--keys-file", str(tmp_path / "keys"), "--no-public-metrics")
    with running_service(tmp_path / "models", *options) as service:
        assert service.client.get("/metrics").status_code == 401
        assert service.client.get("/metrics", headers={"x-api-key": NAMED}).json()["code"] == "scope_missing"
        assert "pushforward_ready" in service.client.get("/metrics", headers=BEARER).text
        assert service.client.post(SAMPLE, json={}, headers=BEARER).json()["code"] == "scope_missing"


def test_metrics_and_documentation_can_be_taken_off_the_port_of_the_api(tmp_path: Path) -> None:
    publish_toy(tmp_path)
    options = ("--no-public-metrics", "--no-public-docs", "--metrics-port", "0")
    with running_service(tmp_path, *options) as service:
        for path in ("/metrics", "/docs", "/openapi.json"):
            assert service.client.get(path).status_code == 404
        assert service.client.get("/readyz").status_code == 200
        assert httpx.get(service.metrics_url).status_code == 200
