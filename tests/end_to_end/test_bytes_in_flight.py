"""Requests and answers hold a bounded number of bytes together; compressed bodies count as they are read."""

from __future__ import annotations

import gzip
import json
import socket
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.test_connections import answer, connect
from tests.serving import RunningService, running_service
from tests.waiting import wait_until

BUDGET = 2**24
SAMPLE = "/v1/models/toy-vae/sample"
SCORE = "/v1/models/toy-vae/score"
LARGE = "/v1/models/fashion-vae/sample?count=760&seed=1"
"""A sample whose answer in JSON is most of the budget."""
ITEM = b'{"inputs": [[[[0, 1], [1, 1]]]]}'


@pytest.fixture(scope="module")
def bounded(models: Path) -> Iterator[RunningService]:
    with running_service(models, "--max-inflight-bytes", str(BUDGET)) as service:
        yield service


def held(service: RunningService) -> float:
    lines = service.client.get("/metrics").text.splitlines()
    return float(next(line for line in lines if line.startswith("pushforward_inflight_bytes ")).split()[1])


def padded(size: int) -> bytes:
    return b" " * (size - len(ITEM)) + ITEM


def begun(service: RunningService, size: int) -> socket.socket:
    """A request that lacks the last byte of its body."""
    connection = connect(service)
    head = f"POST {SCORE} HTTP/1.1\r\nhost: x\r\ncontent-length: {size}\r\n\r\n"
    connection.sendall(head.encode() + padded(size)[:-1])
    return connection


def test_more_bytes_than_the_budget_are_refused_until_others_are_given_back(bounded: RunningService) -> None:
    size = 190_000
    begins = [begun(bounded, size) for _ in range(BUDGET // size)]
    wait_until(lambda: held(bounded) > BUDGET - 2 * size)
    refused = bounded.client.post(SCORE, content=padded(size))
    assert (refused.status_code, refused.json()["code"], refused.headers["retry-after"]) == (503, "busy", "1")
    assert bounded.client.get("/readyz").status_code == 200
    for connection in begins:
        connection.sendall(ITEM[-1:])
        assert b" 200 " in answer(connection)[0]
        connection.close()
    wait_until(lambda: held(bounded) == 0)
    assert bounded.client.post(SCORE, content=padded(size)).status_code == 200


def test_a_large_answer_that_is_not_read_leaves_no_room_for_another_but_for_small_ones(
    bounded: RunningService,
) -> None:
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        host, port = bounded.url.removeprefix("http://").split(":")
        connection.connect((host, int(port)))
        connection.sendall(f"GET {LARGE} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
        wait_until(lambda: held(bounded) > BUDGET / 2)
        assert bounded.client.get(LARGE).json()["code"] == "busy"
        assert bounded.client.post(SAMPLE, json={"seed": 1}).status_code == 200
    wait_until(lambda: held(bounded) == 0)
    assert bounded.client.get(LARGE).status_code == 200


@pytest.mark.parametrize(("encoding", "pack"), [("gzip", gzip.compress), ("Deflate", zlib.compress)])
def test_a_compressed_body_is_read_as_it_was(service: RunningService, encoding: str, pack: object) -> None:
    body = json.dumps({"seed": 7, "count": 3}).encode()
    packed = service.client.post(SAMPLE, content=pack(body), headers={"content-encoding": encoding})  # type: ignore[operator]
    assert packed.status_code == 200
    assert packed.content == service.client.post(SAMPLE, content=body).content


@pytest.mark.parametrize(
    ("body", "encoding", "status"),
    [
        (gzip.compress(bytes(2**26)), "gzip", 413),
        (gzip.compress(b"{}")[:-9], "gzip", 400),
        (gzip.compress(b"{}") * 2, "gzip", 400),
        (b"{}", "gzip", 400),
        (b"{}", "br", 415),
        (gzip.compress(gzip.compress(b"{}")), "gzip, gzip", 415),
    ],
    ids=["grows", "ends early", "goes on", "is not packed", "brotli", "packed twice"],
)
def test_a_body_that_grows_or_is_damaged_or_packed_otherwise_is_refused(
    service: RunningService, body: bytes, encoding: str, status: int
) -> None:
    refused = service.client.post(SAMPLE, content=body, headers={"content-encoding": encoding})
    assert refused.status_code == status, refused.text
