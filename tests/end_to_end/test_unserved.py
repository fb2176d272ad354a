"""Versions that cannot be served are listed with the reason, by every wire, and the others serve."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests import toy
from tests.serving import running_service
from tests.waiting import wait_until


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four models: one has a good version beside a damaged one, and three have no good version."""
    models = tmp_path_factory.mktemp("models")
    toy.publish_toy(models)
    for name in ("toy-vae", "broken-vae"):
        (toy.publish_toy(models, name) / "decode.onnx").write_bytes(b"damaged")
    (toy.publish_toy(models, "only-vae") / "manifest.json").unlink()
    (toy.publish_toy(models, "mixture-vae", mixture=True) / "prior.npz").write_bytes(b"damaged")
    whole = toy.publish_toy(models, "linked-vae").rename(models / "elsewhere")
    (models / "linked-vae/1").symlink_to(whole)
    version = toy.publish_toy(models, "mounted-vae")  # its files are links, as in a volume of a ConfigMap
    for path in list(version.iterdir()):
        (version / "..data").mkdir(exist_ok=True)
        path.rename(version / "..data" / path.name)
        path.symlink_to(f"..data/{path.name}")
    return models


@pytest.fixture(scope="module")
def damaged(folder: Path) -> Iterator[httpx.Client]:
    with running_service(folder) as service:
        yield service.client


def test_the_catalogue_says_why_a_version_is_not_served_and_the_others_serve(
    damaged: httpx.Client, folder: Path
) -> None:
    listed = {model["name"]: model for model in damaged.get("/v1/models").json()["models"]}
    assert (listed["toy-vae"]["version"], listed["toy-vae"]["versions"]) == (1, [2, 1])
    assert str(folder) not in json.dumps(listed)
    assert damaged.post("/v1/models/toy-vae/sample").json()["version"] == 1
    assert damaged.post("/v1/models/toy-vae/versions/2/sample").json()["code"] == "load_failed"
    for name, told in (
        ("only-vae", "manifest.json"),
        ("mixture-vae", "prior.npz"),
        ("broken-vae", "decode.onnx"),
        ("linked-vae", "it is a symbolic link"),
        ("mounted-vae", ".onnx: a symbolic link"),
    ):
        assert listed[name]["state"] == "failed"
        assert told in listed[name]["reason"]
        assert told in damaged.get(f"/v1/models/{name}").json()["reason"]
        assert damaged.post(f"/v1/models/{name}/sample").status_code == 503
    assert "decode.onnx" in listed["toy-vae"]["reason"]


def test_a_service_with_a_model_that_no_version_can_answer_for_is_not_ready_and_names_it(
    damaged: httpx.Client,
) -> None:
    answer = damaged.get("/readyz")
    assert (answer.status_code, answer.json()["status"]) == (503, "failed")
    for name in ("broken-vae", "only-vae", "mixture-vae"):
        assert name in answer.json()["detail"]
        assert damaged.get(f"/readyz/{name}").json()["status"] == "failed"
    assert damaged.get("/readyz/toy-vae").status_code == 200
    assert damaged.head("/readyz/toy-vae").status_code == 200
    assert damaged.get("/readyz/nothing").status_code == 404
    assert damaged.get("/v2/health/ready").status_code == 503


def test_the_repository_index_says_why_a_version_is_not_served(damaged: httpx.Client) -> None:
    listed = damaged.post("/v2/repository/index").json()
    (entry,) = [entry for entry in listed if entry["name"] == "broken-vae"]
    assert (entry["state"], entry["version"]) == ("UNAVAILABLE", "1")
    assert "decode.onnx" in entry["reason"]
    ready = damaged.post("/v2/repository/index", json={"ready": True}).json()
    assert {entry["state"] for entry in ready} == {"READY"}
    answer = damaged.get("/v2/models/broken-vae.sample/ready")
    assert answer.status_code == 503
    assert "error" in answer.json()


def test_what_cannot_be_fetched_from_the_source_is_told_with_the_reason_until_it_can(tmp_path: Path) -> None:
    source = tmp_path / "source"
    toy.publish_toy(source)
    weights = next(path for path in toy.publish_toy(source).iterdir() if path.suffix == ".onnx")
    weights.rename(tmp_path / "aside")
    weights.symlink_to("/proc/self/mem")  # which cannot be read

    def told() -> tuple[list[dict[str, Any]], bool]:
        catalogue = service.client.get("/v1/models").json()
        metrics = service.client.get("/metrics").text
        return catalogue["unfetched"], "pushforward_unfetched_versions 1.0\n" in metrics

    options = ("--source", f"file://{source}", "--cache", str(tmp_path / "cache"), "--poll-seconds", "0.1")
    with running_service(tmp_path / "none", *options) as service:
        (version,), is_counted = told()
        assert is_counted
        reason = "it cannot be fetched now: Input/output error"
        assert version == {"name": "toy-vae", "version": 2, "reason": reason}
        assert service.client.post("/v1/models/toy-vae/sample").json()["version"] == 1
        weights.unlink()
        (tmp_path / "aside").rename(weights)
        wait_until(lambda: told() == ([], False))
        wait_until(lambda: service.client.post("/v1/models/toy-vae/sample").json()["version"] == 2)
        source.rename(tmp_path / "gone")
        failure = wait_until(lambda: service.client.get("/v1/models").json()["poll_failure"])
        assert failure.startswith("the source cannot be listed")
        (tmp_path / "gone").rename(source)
        wait_until(lambda: service.client.get("/v1/models").json()["poll_failure"] is None)
