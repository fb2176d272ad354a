"""Versions that cannot be served are listed with the reason, by every wire, and the others serve."""

import json
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests import toy
from tests.ports import free_port
from tests.serving import RunningService, running_service
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
        return catalogue["unfetched"], service.metric("pushforward_unfetched_versions") == 1

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
        service.wait_for("the models folder is followed again")


def test_a_source_that_cannot_be_reached_is_told_by_the_probe_and_with_its_address_by_the_log_alone(
    tmp_path: Path,
) -> None:
    port = free_port()
    options = ("--source", f"http://127.0.0.1:{port}/models", "--cache", str(tmp_path))
    service = RunningService(tmp_path, *options)
    try:
        service.wait_until_ready()
        reason = "the source cannot be listed (ClientConnectorError)"
        assert service.client.get("/readyz").json() == {"status": "empty", "detail": reason}
        service.wait_for(rf"listed \(ClientConnectorError\): Cannot connect to host 127.0.0.1:{port}")
    finally:
        service.stop()


def test_told_to_stop_while_a_version_is_fetched_the_service_waits_for_no_more_of_it(tmp_path: Path) -> None:
    source, began, over = tmp_path / "source", threading.Event(), threading.Event()
    toy.publish_toy(source)

    class SlowHandler(SimpleHTTPRequestHandler):
        def copyfile(self, source: Any, outputfile: Any) -> None:
            if not self.path.endswith("/2/decode.onnx"):
                outputfile.write(source.read())
            with suppress(ConnectionError):
                while not over.wait(0.1) and (piece := source.read(1)):
                    outputfile.write(piece)
                    began.set()

        def log_message(self, *_: object) -> None:
            pass

    handler = partial(SlowHandler, directory=str(source))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever).start()
        url, cache = f"http://127.0.0.1:{server.server_address[1]}", tmp_path / "cache"
        options = ("--source", url, "--cache", str(cache), "--poll-seconds", "0.1")
        service = RunningService(tmp_path, *options)
        try:
            service.wait_until_ready()
            toy.publish_toy(source)
            assert began.wait(30)
            service.process.send_signal(signal.SIGTERM)
            assert service.process.wait(timeout=20) == 0  # the rest would take 27 s
        finally:
            over.set()
            server.shutdown()
            service.stop()
    assert not [path for path in cache.rglob("*") if ".partial" in path.name]
    assert "cannot be fetched" not in "".join(service.lines)


def test_folders_that_cannot_be_listed_are_told_and_keep_no_other_from_being_followed(tmp_path: Path) -> None:
    """Such a folder is `lost+found` of a volume, which only root may list, or one copied without rights."""
    models = tmp_path / "models"
    version = toy.publish_toy(models)
    strange = (models / "lost+found", models / "two\nlines", Path(os.fsdecode(bytes(models) + b"/\xff\xfe")))
    for folder in (*strange, models / ".put-aside", models / "other-vae"):
        (folder / "1").mkdir(parents=True)
        (folder / "1/manifest.json").touch()
    for folder in (strange[0], models / "other-vae"):
        folder.chmod(0)
    options = ("--cache", str(tmp_path / "cache"), "--poll-seconds", "0.1")
    service = RunningService(models, *options, program=("-m", "tests.unprivileged", "service"))

    def told() -> tuple[dict[str, str], str | None]:
        catalogue = service.client.get("/v1/models").json()
        return {model["name"]: model["state"] for model in catalogue["models"]}, catalogue["poll_failure"]

    def flaw(name: str) -> str:
        return f"folders of models that cannot be listed: {name} (Permission denied)"

    try:
        service.wait_until_ready()
        wait_until(lambda: told() == ({"toy-vae": "ready"}, flaw("other-vae")))
        assert service.client.post("/v2/repository/index").status_code == 200
        (models / "other-vae").chmod(0o755)
        wait_until(lambda: told() == ({"other-vae": "failed", "toy-vae": "ready"}, None))
        version.parent.chmod(0)
        toy.publish_toy(models, "third-vae")
        both = {"other-vae": "failed", "third-vae": "ready", "toy-vae": "ready"}
        wait_until(lambda: told() == (both, flaw("toy-vae")))
        assert service.client.post("/v1/models/toy-vae/sample").status_code == 200
        version.parent.chmod(0o755)
        version.chmod(0)
        service.wait_for("toy-vae/1 was changed in its folder; it serves on")
        wait_until(lambda: told() == (both, None))
        toy.publish_toy(models, "fourth-vae").chmod(0)
        wait_until(lambda: told() == (both | {"fourth-vae": "failed"}, None))
        assert "Permission denied" in service.client.get("/v1/models/fourth-vae").json()["reason"]
        copied = toy.publish_toy(tmp_path / "elsewhere", "fifth-vae")
        (copied / "self_test.npz").chmod(0)
        copied.parent.rename(models / "fifth-vae")
        wait_until(lambda: told()[0].get("fifth-vae") == "failed")
        reason = service.client.get("/v1/models/fifth-vae").json()["reason"]
        assert reason == "self_test.npz: cannot be read (Permission denied)"
        (models / "fifth-vae/1/self_test.npz").chmod(0o644)
        wait_until(lambda: told()[0]["fifth-vae"] == "ready")
        assert "Traceback" not in "".join(service.lines)
    finally:
        service.stop()


def test_a_models_folder_that_cannot_be_read_is_told_and_waited_for(tmp_path: Path) -> None:
    models = tmp_path / "models"
    toy.publish_toy(models)
    models.chmod(0)
    options = ("--cache", str(tmp_path / "cache"), "--poll-seconds", "0.1")
    service = RunningService(models, *options, program=("-m", "tests.unprivileged", "service"))
    try:
        service.wait_until_ready()
        failure = service.client.get("/v1/models").json()["poll_failure"]
        assert failure == "the models folder cannot be read: Permission denied"
        assert service.client.get("/readyz").json() == {"status": "empty", "detail": failure}
        models.chmod(0o755)
        wait_until(lambda: service.client.get("/readyz").status_code == 200)
    finally:
        service.stop()
