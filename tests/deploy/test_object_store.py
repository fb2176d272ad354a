"""A service that takes its models from a real object store: moto's S3, on loopback."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import boto3
import httpx
import pytest
from moto.server import ThreadedMotoServer

from service.format.aliases import write_aliases
from tests.damage import flip_a_byte
from tests.serving import running_service
from tests.toy import publish_toy

pytestmark = pytest.mark.deploy
BUCKET = "models"


class Store:
    """A bucket, filled as `aws s3 sync` would fill it."""

    def __init__(self, url: str) -> None:
        self._client = boto3.client("s3", endpoint_url=url)
        self._client.create_bucket(Bucket=BUCKET)

    def put(self, models: Path, folder: Path) -> None:
        """Uploads what is under a folder, each file under its path from `models`."""
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            self._client.upload_file(str(path), BUCKET, str(path.relative_to(models)))

    def take_out(self, prefix: str) -> None:
        """Deletes every object whose key begins so."""
        for found in self._client.list_objects_v2(Bucket=BUCKET, Prefix=prefix)["Contents"]:
            self._client.delete_object(Bucket=BUCKET, Key=found["Key"])


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Store]:
    """Credentials and address come from the environment, as they do in a pod."""
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "someone",
        "AWS_SECRET_ACCESS_KEY": "something",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_CONFIG_FILE": str(tmp_path / "none"),
    }.items():
        monkeypatch.setenv(name, value)
    yield Store(f"http://{host}:{port}")
    server.stop()


def served(client: httpx.Client) -> dict[str, object]:
    (model,) = client.get("/v1/models").json()["models"]
    return {"version": model["version"], "state": model["state"]}


def test_versions_of_a_bucket_are_served_verified_and_follow_it(store: Store, tmp_path: Path) -> None:
    models = tmp_path / "models"
    store.put(models, publish_toy(models))
    second = publish_toy(models, mixture=True)
    options = ("--source", f"s3://{BUCKET}", "--cache", str(tmp_path / "cache"), "--poll-seconds", "0.2")
    with running_service(tmp_path / "unused", *options) as service:
        assert served(service.client) == {"version": 1, "state": "ready"}
        whole = {path: path.read_bytes() for path in second.iterdir()}
        flip_a_byte(second)
        store.put(models, second)
        service.wait_for("toy-vae/2 stays out: decode.onnx: its SHA-256")
        assert served(service.client)["version"] == 1
        for path, content in whole.items():
            path.write_bytes(content)
        store.put(models, second)
        service.wait_for("serving toy-vae/2")
        write_aliases(second.parent, {"champion": 1})
        store.put(models, second.parent)
        service.wait_for("version 1 of toy-vae answers now")
        answer = service.client.post("/v1/models/toy-vae/sample", json={"seed": 7})
        assert (answer.status_code, answer.headers["x-pushforward-version"]) == (200, "1")


def test_a_store_that_is_gone_leaves_its_copy_serving(store: Store, tmp_path: Path) -> None:
    models = tmp_path / "models"
    store.put(models, publish_toy(models))
    options = ("--source", f"s3://{BUCKET}", "--cache", str(tmp_path / "cache"), "--poll-seconds", "0.2")
    with running_service(tmp_path / "unused", *options) as service:
        store.take_out("toy-vae/")
        service.wait_for("the source holds no version")
        assert service.client.post("/v1/models/toy-vae/sample", json={"seed": 7}).status_code == 200
    with running_service(tmp_path / "unused", *options) as service:  # begun while there is nothing
        assert served(service.client) == {"version": 1, "state": "ready"}
