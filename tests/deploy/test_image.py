"""The real image, built from the Dockerfile and run as hardened as the manifests ask."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from tests.conftest import REPOSITORY
from tests.deploy.container import Builder, Container, obstacle
from tests.deploy.lint import amount
from tests.deploy.locks import lock, normalised, pins
from tests.deploy.rendering import DEPLOY, pod_of, rendered, the
from tests.ports import free_port
from tests.waiting import wait_until

pytestmark = [pytest.mark.image, pytest.mark.timeout(900)]

FOLDER = REPOSITORY / "build/image"
BODY = json.dumps({"seed": 7, "count": 2}).encode()
SAMPLE = "/v1/models/digits-vae/sample"
SCORE = "/v1/models/fashion-vae/score"
NPY = {"content-type": "application/x-npy"}
UPLOAD = (
    f"POST {SCORE} HTTP/1.1\r\nhost: x\r\n"
    f"content-type: application/x-npy\r\ncontent-length: {32 * 2**20}\r\n\r\n"
).encode() + bytes(31 * 2**20)
"""A large body without its end: the service keeps it until the rest comes."""
OUT_OF_MEMORY = 137
"""The status of a process that SIGKILL ended."""


@pytest.fixture(scope="session")
def measured() -> Iterator[dict[str, float]]:
    """Figures that a run measures; printed at its end, and kept beside the image."""
    figures: dict[str, float] = {}
    yield figures
    (FOLDER / "measured.json").write_text(json.dumps(figures, indent=2) + "\n")
    print(f"\nmeasured: {json.dumps(figures)}")  # noqa: T201


@pytest.fixture(scope="session")
def image(measured: dict[str, float]) -> Iterator[tuple[Path, dict[str, Any]]]:
    """The root file system and the configuration of the target `cpu`."""
    if reason := obstacle():
        pytest.skip(f"the image cannot be built here: {reason}")
    FOLDER.mkdir(parents=True, exist_ok=True)
    builder = Builder(FOLDER)
    name = builder.build("cpu")
    with builder.mounted(name) as root:
        for part in ("opt/pushforward", "models"):
            files = [path for path in (root / part).rglob("*") if path.is_file() and not path.is_symlink()]
            measured[f"/{part} MB"] = round(sum(path.stat().st_size for path in files) / 1e6, 1)
        yield root, builder.inspect(name)


def memory_limit() -> int:
    """The limit that the manifests give a server, in bytes."""
    (server,) = pod_of(the(rendered(DEPLOY / "overlays/cpu"), "Deployment"))["containers"]
    return int(amount(server["resources"]["limits"]["memory"]) or 0)


@pytest.fixture
def container(image: tuple[Path, dict[str, Any]], tmp_path: Path) -> Iterator[Container]:
    """A ready container with the manifests' memory limit."""
    started = Container(image[0], tmp_path / "bundle", image[1], memory_limit(), free_port())
    try:
        started.wait_until_ready()
        yield started
    finally:
        started.close()


def begun(container: Container) -> HTTPConnection:
    """A request that has arrived, but for the end of its body."""
    connection = HTTPConnection(urlsplit(container.url).netloc, timeout=60)
    connection.putrequest("POST", SAMPLE)
    connection.putheader("content-length", str(len(BODY)))
    connection.endheaders(BODY[:-1])
    return connection


def finished(connection: HTTPConnection) -> tuple[int, Any]:
    connection.send(BODY[-1:])
    answer = connection.getresponse()
    content = json.loads(answer.read())
    connection.close()
    return answer.status, content


def test_the_image_says_how_it_is_run(image: tuple[Path, dict[str, Any]]) -> None:
    config = image[1]
    assert config["User"] == "10001:10001"
    assert config["StopSignal"] == "SIGTERM"
    assert config["Healthcheck"]["Test"][0] == "CMD"
    assert config["ExposedPorts"].keys() == {"8000/tcp", "9090/tcp"}
    labels = {key.removeprefix("org.opencontainers.image."): value for key, value in config["Labels"].items()}
    assert labels["licenses"] == "Apache-2.0"
    assert len(labels["revision"]) == 40


def test_there_is_no_pip_no_compiler_and_no_training_library(image: tuple[Path, dict[str, Any]]) -> None:
    root = image[0]
    for name in ("pip", "setuptools", "torch", "onnx", "pytest"):
        assert not list((root / "opt").rglob(f"site-packages/{name}"))
    assert not [
        path for path in (root / "usr/bin").iterdir() if path.name in ("gcc", "cc", "make", "curl", "git")
    ]


def test_it_holds_the_packages_of_its_lock_and_no_other(image: tuple[Path, dict[str, Any]]) -> None:
    (packages,) = (image[0] / "opt/pushforward/lib").glob("python3*/site-packages")
    found = dict(path.stem.rsplit("-", 1) for path in packages.glob("*.dist-info"))
    installed = {normalised(name): version for name, version in found.items()}
    assert installed.pop("pushforward")
    assert installed == pins(lock("cpu"))


def test_it_serves_as_a_user_without_rights_on_a_root_it_cannot_write(
    container: Container, measured: dict[str, float]
) -> None:
    measured["start to ready, s"] = round(container.ready_seconds, 2)
    answer = httpx.post(f"{container.url}{SAMPLE}", content=BODY, timeout=60)
    assert answer.status_code == 200
    assert answer.json()["shape"] == [2, 1, 8, 8]
    status = container.status()
    assert set(status["Uid"].split()) == {"10001"}
    assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 0
    assert status["NoNewPrivs"] == "1"
    for path in ("/models/x", "/opt/pushforward/x", "/etc/x"):
        refused = container.execute("/bin/sh", "-c", f"echo > {path}")
        assert "Read-only file system" in refused.stderr
    assert container.execute("/bin/sh", "-c", "echo > /tmp/x").returncode == 0
    probe = ("-c", f"import urllib.request; urllib.request.urlopen('{container.url}/healthz', timeout=4)")
    assert container.execute("/opt/pushforward/bin/python", *probe).returncode == 0
    measured["anonymous memory after the first request, MB"] = round(container.memory_bytes() / 1e6, 1)


def test_told_to_stop_it_is_not_ready_finishes_what_it_has_and_exits_0(
    container: Container, measured: dict[str, float]
) -> None:
    expected = finished(begun(container))
    pending = [begun(container) for _ in range(8)]
    container.terminate()
    told = time.monotonic()
    wait_until(lambda: httpx.get(f"{container.url}/readyz").status_code == 503)
    assert (
        httpx.post(f"{container.url}{SAMPLE}", content=BODY).json() == expected[1]
    )  # serves on, as it drains
    assert [finished(connection) for connection in pending] == [expected] * len(pending)
    assert container.process.wait(timeout=60) == 0
    measured["SIGTERM to exit, s"] = round(time.monotonic() - told, 2)


def test_after_a_real_kill_for_memory_the_same_container_serves_again(
    image: tuple[Path, dict[str, Any]], container: Container, tmp_path: Path, measured: dict[str, float]
) -> None:
    expected = finished(begun(container))
    tight = container.memory_bytes() + 48 * 2**20
    container.limit_memory(tight)
    with contextlib.ExitStack() as uploads:
        for _ in range(8):
            address = ("127.0.0.1", urlsplit(container.url).port or 0)
            upload = uploads.enter_context(socket.create_connection(address, timeout=30))
            try:
                upload.sendall(UPLOAD)
            except OSError:
                break  # it is gone
        assert container.process.wait(timeout=60) == OUT_OF_MEMORY
    again = Container(image[0], tmp_path / "again", image[1], memory_limit(), free_port())
    try:
        measured["start to ready after a kill for memory, s"] = round(again.wait_until_ready(), 2)
        assert finished(begun(again)) == expected
    finally:
        again.close()


def test_the_limits_of_the_manifests_hold_such_bodies(container: Container) -> None:
    with httpx.Client(base_url=container.url, timeout=120) as client:
        for _ in range(4):
            answer = client.post(SCORE, content=bytes(31 * 2**20), headers=NPY)
            assert answer.status_code == 400, answer.text
        assert client.get("/readyz").status_code == 200
