"""The runtime's container serves a folder as KServe mounts it, by the protocols that the runtime names."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from tritonclient import grpc as triton

from tests.deploy.rendering import DEPLOY, rendered, the, variables
from tests.serving import RunningService, running_service
from tests.toy import publish_toy

pytestmark = [pytest.mark.deploy, pytest.mark.usefixtures("_environment")]

NAME = "toy-vae"
MODEL = f"{NAME}.score"
"""A model of the Open Inference Protocol is one operation of a published model."""
HERE = ("--host", "127.0.0.1", "--metrics-port", "0", "--grpc-port", "0")
"""Options that take other ports, since the container's may be in use on this machine."""


@pytest.fixture(scope="module")
def mounted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of models, NAME/VERSION/, as `storageUri` names it."""
    folder = tmp_path_factory.mktemp("mnt") / "models"
    publish_toy(folder, NAME)
    return folder


@pytest.fixture(scope="module")
def _environment() -> Iterator[None]:
    """Set the variables of the runtime's container."""
    (container,) = the(rendered(DEPLOY / "overlays/kserve"), "ServingRuntime")["spec"]["containers"]
    assert "command" not in container  # the image's entrypoint
    assert "args" not in container
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables(container).items():
            patch.setenv(name, value)
        yield


@pytest.fixture(scope="module")
def predictor(_environment: None, mounted: Path) -> Iterator[RunningService]:
    with running_service(mounted, *HERE) as running:
        yield running


@pytest.mark.parametrize("path", ["/v2/health/live", "/v2/health/ready", f"/v2/models/{MODEL}/ready", "/v2"])
def test_the_paths_that_clients_of_kserve_probe_answer(predictor: RunningService, path: str) -> None:
    answer = predictor.client.get(path)
    assert answer.status_code == 200, answer.text


def test_a_model_is_described_by_its_name_and_versions(predictor: RunningService) -> None:
    described = predictor.client.get(f"/v2/models/{MODEL}").json()
    assert described["name"] == MODEL
    assert described["versions"] == ["1"]


def test_grpc_answers_what_http_answers(predictor: RunningService) -> None:
    port = predictor.wait_for(r"gRPC on [\d.]+:(\d+)")[1]
    client = triton.InferenceServerClient(f"127.0.0.1:{port}")
    try:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready(MODEL)
    finally:
        client.close()


def test_the_folder_of_a_single_model_is_refused_with_what_was_expected(
    mounted: Path, tmp_path: Path
) -> None:
    shutil.copytree(mounted / NAME, tmp_path / "models")
    service = RunningService(tmp_path / "models", *HERE)
    try:
        service.wait_until_ready()
        assert service.client.get("/v2/health/live").status_code == 200
        assert service.client.get("/v2/health/ready").status_code != 200
        assert "expected NAME/VERSION/manifest.json" in "".join(service.lines)
    finally:
        service.stop()
