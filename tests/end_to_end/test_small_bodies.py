"""No small body, compressed or not, takes much memory or time before it is refused."""

from __future__ import annotations

import contextlib
import gzip
import json
from pathlib import Path

import grpc
import httpx
import numpy as np
import pytest
from tritonclient.grpc import service_pb2

from tests.end_to_end.connections import HEALTH, everything
from tests.end_to_end.costly_documents import GROWING, OPERATIONS, PLAIN, data, many
from tests.end_to_end.costs import MOST_CPU_SECONDS, MOST_MEMORY_BYTES, SMALL_BYTES, TRIES, costs, slowness
from tests.serving import RunningService, as_npy, npy, running_service

HEALTH_CHECK = "grpc.health.v1.Health/Check"
REFLECTION = "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"


def refused(service: RunningService, path: str, body: bytes, headers: dict[str, str]) -> None:
    """Send a body that is refused, for little."""
    answers: list[httpx.Response] = []
    memory, seconds = costs(
        service, lambda: answers.append(service.client.post(path, content=body, headers=headers))
    )
    assert 400 <= answers[0].status_code < 500, answers[0].text
    assert memory < MOST_MEMORY_BYTES
    assert seconds < MOST_CPU_SECONDS * slowness()


@pytest.mark.parametrize("name", GROWING)
def test_a_small_body_that_grows_is_refused_for_little(service: RunningService, name: str) -> None:
    body = gzip.compress(GROWING[name], 6)
    assert len(body) <= SMALL_BYTES
    refused(service, "/v2/models/fashion-vae.encode/infer", body, {"content-encoding": "gzip"})


@pytest.mark.parametrize("name", PLAIN)
def test_a_small_body_is_refused_for_little(service: RunningService, name: str) -> None:
    assert len(PLAIN[name]) <= SMALL_BYTES
    for operation in OPERATIONS:
        refused(service, f"/v1/models/fashion-vae/{operation}", PLAIN[name], {})


def test_a_large_body_of_empty_lists_is_refused_for_little(service: RunningService) -> None:
    body = b'{"inputs":[%b]}' % many(b"[]", 2_000_000)
    memory, _ = costs(service, lambda: service.client.post("/v1/models/fashion-vae/score", content=body))
    assert memory < MOST_MEMORY_BYTES


@pytest.mark.parametrize("nested", [False, True])
def test_as_many_rows_as_json_may_have_are_read_for_little(service: RunningService, *, nested: bool) -> None:
    """These are the largest requests that are not refused; their numbers alone take memory."""
    item = b"[[%b]]" % many(b"[%b]" % many(b"0.5", 28), 28) if nested else many(b"0.5", 784)
    body, answers = gzip.compress(data(many(item, 1024))), []

    def ask() -> None:
        path, headers = "/v2/models/fashion-vae.encode/infer", {"content-encoding": "gzip"}
        answers.append(service.client.post(path, content=body, headers=headers))

    memory, _ = costs(service, ask)
    assert answers[0].status_code == 200, answers[0].text
    assert memory < 2 * MOST_MEMORY_BYTES


def test_a_message_of_empty_inputs_is_refused_for_little(service: RunningService) -> None:
    errors: list[grpc.StatusCode] = []
    with grpc.insecure_channel(service.grpc_address, compression=grpc.Compression.Gzip) as channel:
        infer = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        for body in (b"\x2a\x00" * 2_000_000, b"\x2a\x02\x22\x00" * 1_000_000, b"\x22\x00" * 2_000_000):

            def ask(body: bytes = body) -> None:
                with pytest.raises(grpc.RpcError) as caught:
                    infer(body, timeout=30)
                errors.append(caught.value.code())

            memory, seconds = costs(service, ask)
            assert memory < MOST_MEMORY_BYTES
            assert seconds < MOST_CPU_SECONDS * slowness()
    assert errors == [grpc.StatusCode.INVALID_ARGUMENT] * 3


@pytest.mark.parametrize("method", ["inference.GRPCInferenceService/ModelInfer", HEALTH_CHECK, REFLECTION])
@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
def test_a_compressed_message_that_grows_is_refused_for_little(
    service: RunningService, compression: grpc.Compression, method: str
) -> None:
    options = [("grpc.max_send_message_length", -1)]
    codes: list[grpc.StatusCode] = []
    with grpc.insecure_channel(service.grpc_address, options, compression) as channel:
        ask_in_stream = channel.stream_stream(f"/{method}")
        for size in (5 * 2**20, 31 * 2**20, 60 * 2**20):

            def ask(body: bytes = bytes(size)) -> None:
                with pytest.raises(grpc.RpcError) as caught:
                    list(ask_in_stream(iter([body]), timeout=30))
                codes.append(caught.value.code())

            memory, seconds = costs(service, ask)
            assert memory < MOST_MEMORY_BYTES
            assert seconds < MOST_CPU_SECONDS * slowness()
    assert set(codes) <= {grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.INVALID_ARGUMENT}


def test_requests_that_wait_for_their_turn_take_little(service: RunningService) -> None:
    with service.connect() as connection:

        def ask() -> None:
            connection.settimeout(2)
            with contextlib.suppress(TimeoutError):  # the service reads no more until its answers are read
                connection.sendall(HEALTH * 200_000)

        memory, _ = costs(service, ask)
    assert memory < MOST_MEMORY_BYTES


@pytest.mark.parametrize("operation", ["decode", "reconstruct"])
def test_more_rows_than_json_answers_are_answered_as_npy_alone(
    service: RunningService, operation: str
) -> None:
    shape = (4_097, 2) if operation == "decode" else (4_097, 1, 2, 2)
    body, headers = as_npy(np.ones(shape, np.float32)), {"content-type": "application/x-npy"}
    path = f"/v1/models/toy-vae/{operation}"
    answer = service.client.post(path, content=body, headers=headers | {"accept": "application/json"})
    assert answer.status_code == 422
    assert "at most 4096" in answer.json()["detail"]
    assert "application/x-npy" in answer.json()["detail"]
    answer = service.client.post(path, content=body, headers=headers | {"accept": "application/x-npy"})
    assert len(npy(answer)) == 4_097


ITEMS = [[[[0.5] * 28] * 28]] * 1024
"""The largest number of items that JSON may hold."""
FEWER = ITEMS[:50]
"""Enough for a long list."""


def test_a_long_body_of_v1_is_read_for_little_and_as_the_same_numbers_in_npy(service: RunningService) -> None:
    answers: list[httpx.Response] = []
    path = "/v1/models/fashion-vae/reconstruct"
    accept = {"accept": "application/x-npy"}
    memory, _ = costs(
        service, lambda: answers.append(service.client.post(path, json={"inputs": ITEMS}, headers=accept))
    )
    assert memory < 2 * MOST_MEMORY_BYTES
    array = as_npy(np.full((1024, 1, 28, 28), 0.5, np.float32))
    headers = accept | {"content-type": "application/x-npy"}
    expected = service.client.post(path, content=array, headers=headers)
    np.testing.assert_array_equal(npy(answers[0]), npy(expected))


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"inputs": [*ITEMS, ITEMS[0]]}, "more"),
        ({"inputs": [*FEWER, [[[0.5] * 27] * 28]]}, "ragged"),
        ({"inputs": [*FEWER, [[[0.5] * 27 + [None]] * 28]]}, "numbers"),
        ({"inputs": np.ravel(FEWER).tolist()}, "shape"),
        ({"outputs": FEWER}, "inputs"),
        ({"inputs": FEWER, "outputs": 1}, "unknown key"),
    ],
)
def test_a_long_body_that_does_not_fit_is_refused_with_the_reason(
    service: RunningService, body: dict[str, object], told: str
) -> None:
    answer = service.client.post("/v1/models/fashion-vae/reconstruct", json=body)
    assert answer.status_code == 422
    assert told in answer.json()["detail"]


def latents(rows: int) -> np.ndarray:
    return np.zeros((rows, 24), np.float32)


MOST_DECODED = {
    "pictures in JSON": ("/v1/models/fashion-vae/sample", b'{"count":4096,"seed":1}', {}),
    "pictures in a grid": (
        "/v1/models/fashion-vae/sample",
        b'{"count":4096,"seed":1}',
        {"accept": "image/png"},
    ),
    "decoded to npy": (
        "/v1/models/fashion-vae/decode",
        as_npy(latents(10_699)),
        {"content-type": "application/x-npy", "accept": "application/x-npy"},
    ),
    "decoded to JSON": (
        "/v1/models/fashion-vae/decode",
        as_npy(latents(4_096)),
        {"content-type": "application/x-npy", "accept": "application/json"},
    ),
    "bytes of v2": (
        "/v2/models/fashion-vae.decode/infer",
        latents(10_699).tobytes(),
        {"inference-header-content-length": "0"},
    ),
    "JSON of v2": (
        "/v2/models/fashion-vae.decode/infer",
        b'{"inputs":[{"name":"latents","shape":[1024,24],"datatype":"FP32","data":[%b]}]}'
        % many(b"0", 1024 * 24),
        {},
    ),
}
"""The largest answers that small bodies may ask for: path, body before compression, and headers."""


@pytest.mark.parametrize("name", MOST_DECODED)
def test_a_small_body_that_asks_for_much_takes_little_memory(service: RunningService, name: str) -> None:
    path, body, headers = MOST_DECODED[name]
    small = gzip.compress(body, 9)
    assert len(small) <= SMALL_BYTES
    answers: list[httpx.Response] = []
    headers = headers | {"content-encoding": "gzip"}

    def ask() -> None:
        answers.append(service.client.post(path, content=small, headers=headers, timeout=60))

    memory, _ = costs(service, ask)
    assert answers[0].status_code == 200, answers[0].text[:300]
    assert memory < MOST_MEMORY_BYTES


def test_a_small_message_that_asks_for_much_takes_little_memory(service: RunningService) -> None:
    rows = 5_349
    tensor = service_pb2.ModelInferRequest.InferInputTensor(name="latents", datatype="FP32", shape=[rows, 24])
    request = service_pb2.ModelInferRequest(
        model_name="fashion-vae.decode", inputs=[tensor], raw_input_contents=[latents(rows).tobytes()]
    )
    options = [("grpc.max_receive_message_length", -1)]
    answers: list[bytes] = []
    with grpc.insecure_channel(service.grpc_address, options, grpc.Compression.Gzip) as channel:
        infer = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")

        def ask() -> None:
            answers.append(infer(request.SerializeToString(), timeout=60))

        # one more copy waits within gRPC for a client that is kept from reading
        memory = min(costs(service, ask)[0] for _ in range(TRIES))
    assert len(answers[0]) > 4 * 784 * rows
    assert memory < MOST_MEMORY_BYTES


def test_an_answer_that_is_no_stream_has_no_more_bytes_of_numbers_than_a_body(models: Path) -> None:
    with running_service(models, "--max-body-bytes", "40000", "--max-steps", "3000") as service:
        most = 40_000 // (4 * 4)
        limits = service.client.get("/v1/models/toy-vae").json()["limits"]
        assert limits["npy_latents"] == limits["json_samples"] == limits["steps"] == most
        walk = {"from": {"seed": 1}, "to": {"seed": 2}, "steps": most + 1}
        answer = service.client.post("/v1/models/toy-vae/interpolate", json=walk)
        assert f"steps is {most + 1}, at most {most} go into" in answer.json()["detail"]
        assert answer.json()["detail"].endswith("ask for fewer at a time")
        config = service.client.get("/v2/models/toy-vae.decode/config").json()
        assert config["max_batch_size"] == most
        npy_both_ways = {"content-type": "application/x-npy", "accept": "application/x-npy"}
        for rows, status in ((most, 200), (most + 1, 422)):
            points = np.zeros((rows, 2), np.float32)
            path = "/v1/models/toy-vae"
            decoded = service.client.post(f"{path}/decode", content=as_npy(points), headers=npy_both_ways)
            sampled = service.client.get(f"{path}/sample?count={rows}&seed=1")
            headers = {"inference-header-content-length": "0"}
            inferred = service.client.post(
                "/v2/models/toy-vae.decode/infer", content=points.tobytes(), headers=headers
            )
            assert [decoded.status_code, sampled.status_code, inferred.status_code] == [status] * 3
            streamed = service.client.get(
                f"{path}/sample?count={rows}&seed=1", headers={"accept": "application/x-npy"}
            )
            assert len(npy(streamed)) == rows


def test_http_1_0_which_knows_no_chunks_gets_a_large_answer_with_its_length(service: RunningService) -> None:
    path = "/v1/models/fashion-vae/sample?count=50&seed=1"
    chunked = service.client.get(path)
    assert chunked.headers["transfer-encoding"] == "chunked"
    assert "content-length" not in chunked.headers
    head, body = by_http_1_0(service, path)
    assert b"content-length: %d" % len(body) in head.lower()
    assert json.loads(body)["samples"] == chunked.json()["samples"]
    answers: list[tuple[bytes, bytes]] = []
    many = "/v1/models/fashion-vae/sample?count=4096&seed=1"
    memory, _ = costs(service, lambda: answers.append(by_http_1_0(service, many)))
    assert b" 422 " in answers[0][0]
    assert b"ask by HTTP/1.1" in answers[0][1]
    assert memory < MOST_MEMORY_BYTES


def by_http_1_0(service: RunningService, path: str) -> tuple[bytes, bytes]:
    """Head and body of the answer to a GET."""
    with service.connect() as connection:
        connection.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
        head, _, body = everything(connection).partition(b"\r\n\r\n")
    return head, body
