"""No row is lost or repeated when connections break, the service is busy, restarts, or changes versions."""

import asyncio
import itertools
import random
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pushforward import AsyncClient, Client
from pushforward.client import RetryPolicy
from service.errors import (
    BodyTooLarge,
    DeadlineExceeded,
    Overloaded,
    Unavailable,
    UnknownVersion,
    Unreachable,
)
from tests import toy
from tests.damage import change_manifest
from tests.ports import free_port
from tests.pushforward.client.equality import assert_equal
from tests.pushforward.client.flaky import Cut, Drip, Fault, FlakyProxy, Hold, Refuse, Swallow, flaky
from tests.serving import RunningService, running_service
from tests.toy import publish_toy
from tests.toy_conditional import publish_conditional
from tests.toy_table import publish_table
from tests.waiting import wait_until

COUNT = 5000
ROW_BYTES = 16


class Naps:
    """A clock that does not sleep, but remembers for how long it was asked to."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)

    async def later(self, seconds: float) -> None:
        self.seconds.append(seconds)


@pytest.fixture
def naps() -> Naps:
    return Naps()


@pytest.fixture
def proxy(service: RunningService) -> Iterator[FlakyProxy]:
    with flaky(service.url) as proxy:
        yield proxy


@pytest.fixture
def flaky_client(proxy: FlakyProxy, naps: Naps) -> Iterator[Client]:
    with Client(proxy.url, sleep=naps) as client:
        yield client


CUTS: list[list[Fault]] = [
    [Cut(0)],
    [Cut(100)],
    [Cut(700)],
    [Cut(ROW_BYTES * 1500 + 7), Cut(ROW_BYTES * 1200 + 3), Cut(0), Cut(20_000)],
    [Cut(ROW_BYTES * COUNT + 300)],
    [*[Cut(6_000)] * 9, Refuse(429, "0"), Refuse(503), Cut(15_000)],  # more than retries in a row
]


@pytest.mark.parametrize("faults", CUTS, ids=str)
def test_a_broken_stream_goes_on_at_the_row_where_it_broke(
    faults: list[Fault], proxy: FlakyProxy, flaky_client: Client, client: Client
) -> None:
    expected = client.sample("toy-vae", count=COUNT, seed=7, offset=3)
    proxy.faults.extend(faults)
    assert_equal(flaky_client.sample("toy-vae", count=COUNT, seed=7, offset=3), expected)
    assert not proxy.faults
    proxy.faults.extend(faults)
    chunks = list(flaky_client.iter_samples("toy-vae", count=COUNT, seed=7, offset=3, chunk_rows=777))
    assert_equal(np.concatenate(chunks), expected)
    assert [len(chunk) for chunk in chunks] == [777] * 6 + [338]


def test_the_asynchronous_client_goes_on_likewise(proxy: FlakyProxy, client: Client, naps: Naps) -> None:
    async def gathered() -> np.ndarray[Any, Any]:
        async with AsyncClient(proxy.url, sleep=naps.later) as aclient:
            chunks = aclient.iter_samples("toy-vae", count=COUNT, seed=7, chunk_rows=700)
            return np.concatenate([rows async for rows in chunks])

    proxy.faults.extend(CUTS[-1])
    assert_equal(asyncio.run(gathered()), client.sample("toy-vae", count=COUNT, seed=7))
    assert len(naps.seconds) == len(CUTS[-1])


def test_a_sample_without_a_seed_keeps_the_one_that_the_client_drew(
    proxy: FlakyProxy, naps: Naps, client: Client
) -> None:
    seed = random.Random(5).randint(0, 2**53 - 1)
    proxy.faults.extend([Cut(20_000), Cut(20_000)])
    with Client(proxy.url, sleep=naps, randomness=random.Random(5)) as flaky_client:
        samples = flaky_client.sample("toy-vae", count=COUNT)
    assert_equal(samples, client.sample("toy-vae", count=COUNT, seed=seed))


@pytest.mark.parametrize(
    ("fault", "wait_seconds"),
    [
        (Cut(0), 0),
        (Cut(50), 0),
        (Cut(250), 0),
        (Refuse(429, "2"), 2),
        (Refuse(503, "2"), 2),
        (Refuse(502), 1),  # by a proxy, without a reason
    ],
    ids=str,
)
def test_a_score_is_asked_for_again_after_a_fault(
    fault: Fault, wait_seconds: float, proxy: FlakyProxy, flaky_client: Client, client: Client, naps: Naps
) -> None:
    expected = client.score("toy-vae", toy.items(9))
    proxy.faults.append(fault)
    assert_equal(flaky_client.score("toy-vae", toy.items(9)), expected)
    (pause,) = naps.seconds
    assert wait_seconds <= pause <= wait_seconds + 0.1


def test_a_replica_that_does_not_know_yet_the_version_of_a_call_is_asked_again(
    proxy: FlakyProxy, flaky_client: Client, client: Client, naps: Naps
) -> None:
    unknown = Refuse(404, body=b'{"code": "unknown_version", "detail": "there is no such version"}')
    proxy.faults.extend([Refuse(413), Cut(10**6), unknown])
    assert_equal(flaky_client.score("toy-vae", toy.items(9)), client.score("toy-vae", toy.items(9)))
    proxy.faults.extend([Cut(20_000), unknown])
    samples = flaky_client.sample("toy-vae", count=COUNT, seed=7)
    assert_equal(samples, client.sample("toy-vae", count=COUNT, seed=7))
    assert len(naps.seconds) == 3
    proxy.faults.append(unknown)
    with pytest.raises(UnknownVersion):
        flaky_client.sample("toy-vae", version=9)


def test_the_pauses_grow_and_end_with_the_last_error(proxy: FlakyProxy, naps: Naps) -> None:
    policy = RetryPolicy(retries=6, first_seconds=1, longest_seconds=10)
    proxy.faults.extend([Refuse(429, "3")] * 7)
    with Client(proxy.url, sleep=naps, policy=policy) as client, pytest.raises(Overloaded):
        client.sample("toy-vae", seed=1)
    backoff = [seconds - 3 for seconds in naps.seconds]
    assert len(backoff) == 6
    for pause, most in zip(backoff, [1, 2, 4, 8, 10, 10], strict=True):
        assert most / 2 <= pause <= most


def test_an_answer_that_asks_for_a_long_pause_is_an_error_at_once(proxy: FlakyProxy, naps: Naps) -> None:
    proxy.faults.extend([Refuse(503, "30"), Refuse(503, "31")])
    client = Client(proxy.url, timeout_seconds=None, sleep=naps)
    with client, pytest.raises(Unavailable):
        client.sample("toy-vae", seed=1)
    assert len(naps.seconds) == 1


def test_a_mistake_is_not_sent_again(proxy: FlakyProxy, flaky_client: Client) -> None:
    with pytest.raises(Exception, match="temperature"):
        flaky_client.sample("toy-vae", temperature=11)
    assert len(proxy.requests) == 1


class Clock:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_no_pause_goes_beyond_the_deadline_of_the_call(proxy: FlakyProxy) -> None:
    proxy.faults.extend([Refuse(429, "4")] * 9)
    clock = Clock()
    client = Client(proxy.url, timeout_seconds=10, clock=clock, sleep=clock.sleep)
    with client, pytest.raises(Overloaded):
        client.sample("toy-vae", seed=1)
    assert len(proxy.requests) == 3
    assert clock.now < 10


def test_a_request_says_how_much_time_is_left(proxy: FlakyProxy) -> None:
    proxy.faults.append(Refuse(429, "4"))
    clock = Clock()
    with Client(proxy.url, timeout_seconds=10, clock=clock, sleep=clock.sleep) as client:
        client.sample("toy-vae", seed=1)
    left = [re.search(r"x-request-timeout-seconds: ([\d.]+)", request) for request in proxy.requests]
    first, second = (float(found[1]) for found in left if found)
    assert first == 10
    assert 5.8 <= second <= 6


def test_each_chunk_has_the_time_of_a_call_and_none_of_what_is_done_between_them(
    service: RunningService,
) -> None:
    clock = Clock()
    with Client(service.url, timeout_seconds=60, clock=clock) as client:
        for _ in client.iter_samples("toy-vae", count=COUNT, seed=7, chunk_rows=1000):
            clock.now += 50


def score_by_async_client(url: str) -> None:
    async def score() -> None:
        async with AsyncClient(url, timeout_seconds=0.5) as client:
            await client.score("toy-vae", toy.items(1))

    asyncio.run(score())


def score_by_client(url: str) -> None:
    with Client(url, timeout_seconds=0.5) as client:
        client.score("toy-vae", toy.items(1))


@pytest.mark.parametrize("score", [score_by_client, score_by_async_client])
def test_a_service_that_never_answers_is_an_error_in_time(
    score: Callable[[str], None], proxy: FlakyProxy
) -> None:
    proxy.faults.extend([Swallow()] * 9)
    started_at = time.monotonic()
    with pytest.raises(DeadlineExceeded, match=r"0\.5 s had passed.*timeout_seconds"):
        score(proxy.url)
    assert time.monotonic() - started_at < 5


@pytest.mark.parametrize(
    "beginning", [b"HTTP/1.1 200 OK\r\nx: ", b"HTTP/1.1 200 OK\r\ncontent-length: 9999\r\n\r\n"]
)
def test_an_asynchronous_call_ends_in_time_whatever_drips(proxy: FlakyProxy, beginning: bytes) -> None:
    proxy.faults.append(Drip(beginning))
    started_at = time.monotonic()
    with pytest.raises(DeadlineExceeded, match=r"0\.5 s had passed"):
        score_by_async_client(proxy.url)
    assert time.monotonic() - started_at < 5


def test_a_deadline_that_the_service_misses_is_its_own_error(client: Client, service: RunningService) -> None:
    with Client(service.url, timeout_seconds=0.05) as hasty, pytest.raises(DeadlineExceeded):
        hasty.score("digits-vae", np.zeros((2000, 1, 8, 8)), draws=400)
    assert len(client.score("digits-vae", np.zeros((2, 1, 8, 8)))) == 2


@pytest.mark.parametrize(
    "call",
    [
        lambda client: client.sample("digits-vae", count=3000, seed=7),
        lambda client: client.decode("digits-vae", np.zeros((3000, 10))),
    ],
    ids=["a stream", "whole"],
)
def test_an_answer_is_cut_off_when_the_time_of_the_call_is_over(
    call: Callable[[Client], Any], service: RunningService
) -> None:
    seconds = itertools.count(step=10)
    with Client(service.url, timeout_seconds=65, clock=lambda: next(seconds)) as client:
        client.model("digits-vae")
        with pytest.raises(DeadlineExceeded):
            call(client)


@pytest.mark.parametrize("status", [413, 504])
def test_rows_that_are_too_many_for_a_proxy_or_a_deadline_are_sent_in_smaller_parts(
    status: int, proxy: FlakyProxy, flaky_client: Client, client: Client, naps: Naps
) -> None:
    proxy.faults.extend([Refuse(status), Refuse(status)])
    inputs = toy.items(19)
    assert_equal(flaky_client.score("toy-vae", inputs), client.score("toy-vae", inputs))
    assert len(proxy.requests) == 2 + 5  # of 4 rows
    assert not naps.seconds
    options: dict[str, Any] = {"alpha": 0.5, "correction": "benjamini-hochberg"}
    proxy.faults.append(Refuse(status))
    corrected = client.score("toy-vae", inputs, **options)
    assert_equal(flaky_client.score("toy-vae", inputs, **options), corrected)
    proxy.faults.append(Refuse(status))
    with pytest.raises(DeadlineExceeded if status == 504 else BodyTooLarge):
        flaky_client.score("toy-vae", inputs[:1])


def test_an_unreachable_service_is_named_with_what_starts_one(naps: Naps) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with Client(url, sleep=naps) as client, pytest.raises(Unreachable) as raised:
        client.sample("toy-vae")
    assert url in str(raised.value)
    assert "`pushforward serve`" in str(raised.value)
    assert sum(naps.seconds) < 1


@pytest.fixture
def own_service(tmp_path: Path) -> Iterator[tuple[Path, RunningService]]:
    """A models folder and its server, which a test may change and kill."""
    publish_toy(tmp_path)
    with running_service(tmp_path, "--poll-seconds", "0.05", "--trial", "never") as service:
        yield tmp_path, service


def test_a_stream_keeps_the_version_that_began_it_and_the_next_call_gets_the_new_one(
    own_service: tuple[Path, RunningService], naps: Naps
) -> None:
    models, service = own_service
    with flaky(service.url) as proxy, Client(proxy.url, sleep=naps) as client:
        expected = client.sample("toy-vae", count=COUNT, seed=7)
        scores = client.score("toy-vae", toy.items(5))
        proxy.faults.extend([Cut(20_000), Cut(20_000)])
        chunks = client.iter_samples("toy-vae", count=COUNT, seed=7, chunk_rows=100)
        rows = [next(chunks)]
        publish_toy(models, mixture=True)
        wait_until(lambda: service.client.get("/v1/models/toy-vae").json()["version"] == 2)
        rows += chunks
        assert_equal(np.concatenate(rows), expected)
        assert (client.sample("toy-vae", count=COUNT, seed=7) != expected).any()

        proxy.requests.clear()
        newer = client.score("toy-vae", toy.items(5))
        assert (newer.surprise != scores.surprise).any()
        assert_equal(newer, client.score("toy-vae", toy.items(5), version=2))
        assert_equal(scores, client.score("toy-vae", toy.items(5), version=1))

        publish_table(models, "toy-vae")
        wait_until(lambda: service.client.get("/v1/models/toy-vae").json()["version"] == 3)
        assert len(client.score("toy-vae", {"height": [170.0], "colour": ["red"]})) == 1


def test_all_requests_of_a_call_go_to_the_version_that_answers_the_first(
    own_service: tuple[Path, RunningService],
) -> None:
    models, service = own_service
    inputs = toy.items(19)

    def publish(_: float) -> None:
        publish_toy(models, mixture=True)
        wait_until(lambda: service.client.get("/v1/models/toy-vae").json()["version"] == 2)

    with flaky(service.url) as proxy, Client(proxy.url, sleep=publish) as client:
        older = client.score("toy-vae", inputs)
        proxy.faults.extend(
            [Refuse(413), Cut(10**6), Refuse(429, "0")]
        )  # half of the rows, a pause, the rest
        assert_equal(client.score("toy-vae", inputs), older)
        newer = client.score("toy-vae", inputs, version=2)
        assert (newer.surprise != older.surprise).any()
        proxy.faults.append(Refuse(413))
        assert_equal(client.score("toy-vae", inputs), newer)


def test_labels_are_the_classes_of_the_version_that_answers(own_service: tuple[Path, RunningService]) -> None:
    models, service = own_service
    described = f"{service.url}/v1/models/classes-gan"
    publish_conditional(models)
    wait_until(lambda: service.client.get(described).json().get("state") == "ready")
    with flaky(service.url) as proxy, ExitStack() as stack:
        one, two = (stack.enter_context(Client(proxy.url)) for _ in range(2))
        for client in (one, two):
            client.sample("classes-gan")
        newer = models / "classes-gan" / ".newer"
        shutil.copytree(models / "classes-gan" / "1", newer)
        others = {"version": 2, "class_names": ["7", "sneaker, red", "bag"]}
        change_manifest(newer, lambda manifest: manifest.update(others))
        newer.rename(newer.with_name("2"))
        wait_until(lambda: service.client.get(described).json()["version"] == 2)
        proxy.requests.clear()
        found = one.sample("classes-gan", seed=7, label=["bag", "7"])
        assert_equal(found, one.sample("classes-gan", seed=7, label=[2, 0]))
        assert "/versions/2/" in proxy.lines[1]  # so that replicas which do not agree end
        assert_equal(
            two.sample("classes-gan", seed=7, label=["sneaker, red"]),
            one.sample("classes-gan", seed=7, label=[1]),
        )


def test_a_service_that_is_killed_in_mid_stream_and_starts_again_loses_no_row(
    own_service: tuple[Path, RunningService], client: Client
) -> None:
    models, first = own_service
    with flaky(first.url, Hold(20_000)) as proxy:
        again: list[RunningService] = []

        def restart(_: float) -> None:
            if not again:
                again.append(RunningService(models).wait_until_ready())
                proxy.target = again[0].url

        with Client(proxy.url, sleep=restart) as flaky_client:
            options: dict[str, Any] = {"count": COUNT, "seed": 7, "version": 1}
            chunks = flaky_client.iter_samples("toy-vae", chunk_rows=100, **options)
            rows = [next(chunks)]
            first.process.kill()
            first.process.wait()
            rows += chunks
        (second,) = again
        second.stop()
    assert_equal(np.concatenate(rows), client.sample("toy-vae", count=COUNT, seed=7))
