"""A service that takes its models from a real object store, and bulk work in it: moto's S3, on loopback."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import httpx
import numpy as np
import pytest
import s3fs
from moto.server import ThreadedMotoServer

from pushforward.bulk.failures import BulkMistake
from pushforward.bulk.plan import Shard
from pushforward.bulk.run import Report
from service.format.aliases import write_aliases
from tests import toy
from tests.damage import flip_a_byte
from tests.pushforward.bulk.work import parts, work
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

    def content(self, prefix: str) -> dict[str, bytes]:
        """The objects whose key begins so, by the last part of their keys."""
        found = self._client.list_objects_v2(Bucket=BUCKET, Prefix=prefix)["Contents"]
        got = {each["Key"]: self._client.get_object(Bucket=BUCKET, Key=each["Key"]) for each in found}
        return {key.rpartition("/")[2]: answer["Body"].read() for key, answer in got.items()}

    def spoil(self, key: str) -> None:
        """Writes other bytes under a key."""
        self._client.put_object(Bucket=BUCKET, Key=key, Body=b"other bytes")


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


def test_bulk_work_reads_and_writes_a_bucket_as_a_folder_and_goes_on_in_it(
    store: Store, tmp_path: Path
) -> None:
    models, plain, rows = tmp_path / "models", tmp_path / "plain", tmp_path / "rows"
    publish_toy(models)
    rows.mkdir()
    np.save(rows / "a.npy", toy.items(700))
    np.save(rows / "b.npy", toy.items(300))
    store.put(tmp_path, rows)
    s3fs.S3FileSystem.clear_instance_cache()
    bucket = f"s3://{BUCKET}"

    def score(out: Path | str, **options: Any) -> Report:
        return work("score", models, "toy-vae", out, part_rows=128, **options)

    score(plain, input=str(rows))
    first = score(f"{bucket}/scores", input=f"{bucket}/rows", shard=Shard(1, 2))
    assert (first.made, first.complete) == (4, False)
    whole = score(f"{bucket}/scores", input=f"{bucket}/rows", processes=2)
    assert (whole.made, whole.there, whole.complete) == (4, 4, True)
    made = {path.name: path.read_bytes() for path in parts(plain)}
    assert store.content("scores/part-") == made
    assert not [name for name in store.content("scores/") if name.startswith(".")]

    store.take_out("scores/part-00003")
    store.spoil("scores/part-00005.parquet")
    again = score(f"{bucket}/scores", input=f"{bucket}/rows")
    assert (again.made, again.there, again.damaged, again.complete) == (2, 6, [3, 5], True)
    assert store.content("scores/part-") == made

    samples = {"count": 1_000, "seed": 7, "part_rows": 400}
    work("sample", models, "toy-vae", tmp_path / "samples", **samples)
    assert work("sample", models, "toy-vae", f"{bucket}/samples", **samples).complete
    assert store.content("samples/part-") == {
        path.name: path.read_bytes() for path in parts(tmp_path / "samples")
    }
    with pytest.raises(BulkMistake, match="no such file or folder"):
        score(f"{bucket}/other", input=f"{bucket}/nothing.npy")
    encoded = work("encode", models, "toy-vae", tmp_path / "encoded", input=f"{bucket}/samples")
    assert encoded.plan.rows == 1_000
