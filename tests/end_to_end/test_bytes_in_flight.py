"""Requests and answers hold a bounded number of bytes together; compressed bodies count as they are read."""

from __future__ import annotations

import gzip
import json
import socket
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from urllib.parse import urlsplit

import grpc
import pytest
from tritonclient.grpc import service_pb2

from tests.end_to_end.connections import answer
from tests.end_to_end.costs import costs, memory_bytes
from tests.serving import RunningService, running_service
from tests.waiting import wait_until

BUDGET = 2**24
SAMPLE = "/v1/models/toy-vae/sample"
SCORE = "/v1/models/toy-vae/score"
LARGE = "/v1/models/fashion-vae/sample?count=4096&seed=1"
"""A sample whose answer in JSON is most of the budget."""
ITEM = b'{"inputs": [[[[0, 1], [1, 1]]]]}'


@pytest.fixture(scope="module")
def bounded(models: Path) -> Iterator[RunningService]:
    with running_service(models, "--max-inflight-bytes", str(BUDGET), "--grpc-port", "0") as service:
        yield service


def held(service: RunningService) -> float:
    return service.metric("pushforward_inflight_bytes")


def padded(size: int) -> bytes:
    return b" " * (size - len(ITEM)) + ITEM


def begun(service: RunningService, size: int) -> socket.socket:
    """A request that lacks the last byte of its body."""
    connection = service.connect()
    head = f"POST {SCORE} HTTP/1.1\r\nhost: x\r\ncontent-length: {size}\r\n\r\n"
    connection.sendall(head.encode() + padded(size)[:-1])
    return connection


def test_more_bytes_than_the_budget_are_refused_until_others_are_given_back(bounded: RunningService) -> None:
    size = 190_000
    begins = [begun(bounded, size) for _ in range(BUDGET // size)]
    wait_until(lambda: held(bounded) > BUDGET - 2 * size)
    packed = {"content-encoding": "gzip"}  # which counts by what it becomes
    for content, headers in ((padded(size), {}), (gzip.compress(padded(size)), packed)):
        refused = bounded.client.post(SCORE, content=content, headers=headers)
        assert (refused.status_code, refused.json()["code"]) == (503, "busy")
        assert refused.headers["retry-after"] == "1"
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
        address = urlsplit(bounded.url)
        connection.connect((address.hostname, address.port))
        connection.sendall(f"GET {LARGE} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
        wait_until(lambda: held(bounded) > BUDGET / 2)
        assert bounded.client.get(LARGE).json()["code"] == "busy"
        assert bounded.client.post(SAMPLE, json={"seed": 1}).status_code == 200
    wait_until(lambda: held(bounded) == 0)
    assert bounded.client.get(LARGE).status_code == 200


INFER = "/inference.GRPCInferenceService/ModelInfer"


def samples(count: int) -> bytes:
    """A message that asks for so many samples of 3 136 bytes."""
    message = service_pb2.ModelInferRequest(model_name="fashion-vae.sample")
    for name in ("seed", "index"):
        given = message.inputs.add(name=name, datatype="INT64", shape=[count])
        given.contents.int64_contents.extend(range(count))
    return bytes(message.SerializeToString())


def test_a_large_answer_of_grpc_that_is_not_read_leaves_no_room_for_another_but_for_small_ones(
    bounded: RunningService,
) -> None:
    target = bounded.grpc_address
    options = [("grpc.max_receive_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]
    large = samples(BUDGET * 2 // 3 // 3_136)
    with grpc.insecure_channel(target, options) as slow, grpc.insecure_channel(target, options) as other:
        unread = slow.stream_stream(INFER)(iter([large]), timeout=60)
        wait_until(lambda: held(bounded) > BUDGET / 2)
        infer = other.unary_unary(INFER)
        with pytest.raises(grpc.RpcError) as raised:
            infer(large, timeout=60)
        assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
        assert dict(raised.value.trailing_metadata())["retry-after"] == "1"
        assert len(infer(samples(1), timeout=60)) > 3_136
        assert len(next(unread)) > BUDGET / 2
        wait_until(lambda: held(bounded) == 0)
        assert len(infer(large, timeout=60)) > BUDGET / 2


LONG_MESSAGE = bytes(31 * 2**20)
"""Very many fields, which are refused once the message is there."""


def refused(target: str) -> None:
    options = [("grpc.max_send_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]
    with grpc.insecure_channel(target, options) as channel, pytest.raises(grpc.RpcError):
        channel.unary_unary(INFER)(LONG_MESSAGE, timeout=60)


def test_messages_that_come_at_once_are_received_in_turns(bounded: RunningService) -> None:
    target = bounded.grpc_address

    def ask() -> None:
        with ThreadPoolExecutor(12) as threads:
            list(threads.map(refused, [target] * 12))

    assert costs(bounded, ask)[0] < 5 * len(LONG_MESSAGE)


def test_a_message_that_is_refused_leaves_nothing_behind(bounded: RunningService) -> None:
    target = bounded.grpc_address
    refused(target)
    before = memory_bytes(bounded, "VmRSS")
    for _ in range(4):
        refused(target)
    assert memory_bytes(bounded, "VmRSS") - before < 2 * len(LONG_MESSAGE)


@pytest.mark.living
def test_calls_that_never_send_their_message_keep_nobody_out(bounded: RunningService) -> None:
    target = bounded.grpc_address
    never = Event()
    with grpc.insecure_channel(target) as channel, grpc.insecure_channel(target) as other:
        ask = channel.stream_stream(INFER)
        silent = [ask(iter(lambda: bytes(never.wait()), b""), timeout=60) for _ in range(20)]
        try:
            wait_until(lambda: bounded.metric("pushforward_inflight_requests") >= len(silent))
            for _ in range(2):
                assert len(other.unary_unary(INFER)(samples(1), timeout=30)) > 3_136
        finally:
            for call in silent:
                call.cancel()
            never.set()


def test_without_a_key_no_message_is_read(models: Path, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("a-key-of-the-shop\n")
    with running_service(models, "--keys-file", str(keys), "--grpc-port", "0") as service:
        target = service.grpc_address
        with grpc.insecure_channel(target, [("grpc.max_send_message_length", -1)]) as channel:
            infer = channel.unary_unary(INFER)

            def ask() -> None:
                with pytest.raises(grpc.RpcError) as raised:
                    infer(bytes(30 * 2**20), timeout=60)
                assert raised.value.code() is grpc.StatusCode.UNAUTHENTICATED

            assert costs(service, ask)[0] < 2**23
            metadata = (("x-api-key", "a-key-of-the-shop"),)
            assert len(infer(samples(1), metadata=metadata, timeout=60)) > 3_136


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


def test_the_numbers_behind_text_that_is_written_while_it_is_sent_count(bounded: RunningService) -> None:
    before = held(bounded)
    with bounded.connect() as slow:
        body = gzip.compress(json.dumps({"inputs": [[[[0.5] * 28] * 28]] * 700, "map": True}).encode())
        head = "POST /v1/models/fashion-vae/score HTTP/1.1\r\nhost: x\r\ncontent-encoding: gzip\r\n"
        slow.sendall(f"{head}content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n".encode())
        slow.sendall(body)
        slow.recv(2**12)  # it is being sent, and no more of it is read
        assert held(bounded) - before > 700 * 784 * 4
