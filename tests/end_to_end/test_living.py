"""Versions come and go in the folder of a real server, while clients of all kinds ask without a pause."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from itertools import product
from pathlib import Path
from statistics import median

import pytest

from service.format.aliases import change_alias
from tests.damage import change_manifest, flip_a_byte
from tests.end_to_end.connections import connected
from tests.published import newest
from tests.serving import RunningService, running_service
from tests.toy import publish_toy

pytestmark = [pytest.mark.living, pytest.mark.timeout(600)]
LATE = "30"
"""The deadline in seconds; a later answer is a 504, and so a failure."""
JSON, NPY = "application/json", "application/x-npy"


@dataclass(frozen=True)
class Question:
    """A request whose answer is known for each version, byte by byte."""

    operation: str
    body: str
    accept: str = JSON
    keeps: bool = True
    """True if it is asked again on the same connection."""


def questions(item_shape: tuple[int, ...]) -> list[Question]:
    """Return short and long questions, as JSON and npy, some streamed, to every graph."""
    item: object = 0.0
    for size in reversed(item_shape):
        item = [item] * size
    ends = {"from": {"seed": 1}, "to": {"seed": 2}, "steps": 5}
    return [
        Question("sample", json.dumps({"seed": 7})),
        Question("sample", json.dumps({"seed": 7}), keeps=False),
        Question("sample", json.dumps({"seed": 8, "count": 64}), NPY),
        Question("sample", json.dumps({"seed": 9, "count": 1_500}), NPY),
        Question("interpolate", json.dumps(ends), NPY),
        Question("reconstruct", json.dumps({"inputs": [item] * 2})),
        Question("score", json.dumps({"inputs": [item], "draws": 4, "seed": 3})),
    ]


class Clients:
    """Ask a model all questions over and over, each in a thread and on a connection of its own."""

    def __init__(self, model: str, item_shape: tuple[int, ...]) -> None:
        self._path = f"/v1/models/{model}"
        self._questions = questions(item_shape)
        self._known: dict[tuple[Question, str], bytes] = {}
        self._stop = threading.Event()
        self.answers: Counter[str] = Counter()
        """Right answers by version."""
        self.longest_seconds: dict[Question, float] = {}
        self.failures: list[str] = []

    def learn(self, models: Path, versions: Iterable[int]) -> None:
        """Learn the answers of each version from an idle service that serves them side by side."""
        with running_service(models) as service:
            connection = connected(service)
            for version, question in product(versions, self._questions):
                status, told, content = self._ask(connection, question, f"/versions/{version}")
                assert (status, told) == (200, str(version)), content
                self._known[question, told] = content
            connection.close()

    @contextmanager
    def asking(self, service: RunningService) -> Iterator[None]:
        """Ask until the block ends; then no client may have seen anything wrong."""
        threads = [
            threading.Thread(target=self._go_on, args=(connected(service), question))
            for question in self._questions
        ]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in threads:
                thread.join()
        assert not self.failures

    def _ask(self, connection: HTTPConnection, question: Question, of: str = "") -> tuple[int, str, bytes]:
        headers = {"accept": question.accept, "x-request-timeout-seconds": LATE}
        connection.request("POST", f"{self._path}{of}/{question.operation}", question.body, headers)
        response = connection.getresponse()
        return response.status, response.headers.get("x-pushforward-version", ""), response.read()

    def _go_on(self, connection: HTTPConnection, question: Question) -> None:
        stops = False
        while not stops:
            stops = self._stop.is_set()  # and asks once more, whoever answers in the end
            started_at = time.perf_counter()
            try:
                status, version, content = self._ask(connection, question)
            except (OSError, HTTPException) as error:
                self.failures.append(f"{question}: {error!r}")
                break
            seconds = time.perf_counter() - started_at
            self.longest_seconds[question] = max(seconds, self.longest_seconds.get(question, 0.0))
            if status != 200 or content != self._known.get((question, version)):
                self.failures.append(f"{question}: {status}, version {version}, {content[:200]!r}")
                break
            self.answers[version] += 1
            if not question.keeps:
                connection.close()
        connection.close()


def resident_bytes(service: RunningService) -> float:
    """The median over some seconds, since what is in flight comes and goes."""
    status, readings = Path(f"/proc/{service.process.pid}/status"), []
    for _ in range(40):
        time.sleep(0.1)
        readings.append(1024 * int(status.read_text().split("VmRSS:")[1].split()[0]))
    return median(readings)


def publish_two_fashions(models: Path) -> Path:
    """Version 1 with the graphs of one published model, 2 with those of another; returns the folder of 2."""
    for version, source in enumerate(("fashion-vae", "fashion-binary-vae"), start=1):
        folder = models / "fashion" / str(version)
        shutil.copytree(newest(source), folder)
        manifest = json.loads((folder / "manifest.json").read_text())
        (folder / "manifest.json").write_text(json.dumps(manifest | {"name": "fashion", "version": version}))
    return folder


@pytest.mark.parametrize("processes", [1, 2])
def test_under_load_a_new_version_takes_the_place_of_the_old_one_and_a_broken_one_does_not(
    tmp_path: Path, processes: int
) -> None:
    publish_toy(tmp_path / "models")
    second = publish_toy(tmp_path / "models", mixture=True)
    clients = Clients("toy-vae", (1, 2, 2))
    clients.learn(tmp_path / "models", (1, 2))
    second.rename(tmp_path / "second")
    options = ("--poll-seconds", "0.2", "--newest-versions", "1")
    with running_service(tmp_path / "models", *options, processes=processes) as service:
        with clients.asking(service):
            broken = tmp_path / "models/toy-vae/3"
            shutil.copytree(tmp_path / "second", broken)
            change_manifest(broken, lambda manifest: manifest.update(version=3))
            flip_a_byte(broken)
            service.wait_for("toy-vae/3 stays out: ", processes)
            (tmp_path / "second").rename(second)
            service.wait_for("let go of toy-vae/1", processes)
        assert set(clients.answers) == {"1", "2"}
        (summary,) = service.client.get("/v1/models").json()["models"]
        assert (summary["version"], summary["state"]) == (2, "ready")
        assert summary["reason"].startswith("decode.onnx: its SHA-256")


def test_under_load_the_champion_is_moved_back_and_forth(tmp_path: Path) -> None:
    publish_toy(tmp_path)
    publish_toy(tmp_path, mixture=True)
    clients = Clients("toy-vae", (1, 2, 2))
    clients.learn(tmp_path, (1, 2))
    with running_service(tmp_path, "--poll-seconds", "0.05") as service, clients.asking(service):
        for turn in range(20):
            change_alias(tmp_path / "toy-vae", "champion", 1 + turn % 2)
            service.wait_for(r"version \d of toy-vae answers now", turn + 1)
    assert min(clients.answers.values()) > 0


def test_twenty_swaps_under_load_lose_no_answer_and_keep_no_memory(tmp_path: Path) -> None:
    models = tmp_path / "models"
    second = publish_two_fashions(models)
    clients = Clients("fashion", (1, 28, 28))
    clients.learn(models, (1, 2))
    second.rename(tmp_path / "second")
    options = ("--poll-seconds", "0.2", "--newest-versions", "1")
    with running_service(models, *options) as service, clients.asking(service):
        while sum(clients.answers.values()) < 1_000:
            time.sleep(0.1)
        before = resident_bytes(service)
        for turn in range(20):
            comes, goes = (tmp_path / "second", second) if turn % 2 == 0 else (second, tmp_path / "second")
            comes.rename(goes)
            service.wait_for("let go of fashion/", turn + 1)
        after = resident_bytes(service)
    assert min(clients.answers.values()) > 100
    assert after < 1.1 * before, f"{before / 1e6:.0f} MB before, {after / 1e6:.0f} MB after"
