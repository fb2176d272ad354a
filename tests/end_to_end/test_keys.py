"""A service that asks for keys, over every wire it has."""

import json
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

KEY = "a-key-that-was-given-out"
BEARER = {"authorization": f"Bearer {KEY}"}
SAMPLE = "/v1/models/toy-vae/sample"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    folder = tmp_path_factory.mktemp("guarded")
    publish_toy(folder / "models")
    (folder / "keys").write_text(f"{KEY}\n")
    options = ("--keys-file", str(folder / "keys"), "--grpc-port", "0")
    with running_service(folder / "models", *options) as service:
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


def test_a_body_is_not_waited_for_without_a_key(guarded: RunningService) -> None:
    answer = guarded.client.post(SAMPLE, content=iter([b"{" * 10_000]))
    assert answer.status_code == 401
    assert answer.headers["connection"] == "close"
    assert guarded.client.post(SAMPLE, json={"seed": 7}, headers=BEARER).status_code == 200


def test_the_standard_client_sends_a_key_over_grpc(guarded: RunningService) -> None:
    address = guarded.wait_for(r"serving gRPC on (\S+)")[1]
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
    assert "security" not in httpx.get(f"{service.url}/openapi.json").json()
