"""NVIDIA's own client on a real server: what every call puts on the wire, and what it makes of the answer."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
import tritonclient.http as triton
import tritonclient.http.aio as triton_aio
from tritonclient.utils import InferenceServerException

from tests import toy
from tests.end_to_end.recording import Recorder, Sent, recorder
from tests.serving import RunningService, running_service

SAMPLE, SCORE = "toy-vae.sample", "toy-vae.score"
BESIDES = {"User-Agent", "Host", "Connection"}
"""Headers that do not matter here."""


@pytest.fixture(scope="module")
def relay(service: RunningService) -> Iterator[Recorder]:
    with recorder(service.url.removeprefix("http://")) as relay:
        yield relay


@pytest.fixture
def client(relay: Recorder) -> Iterator[triton.InferenceServerClient]:
    relay.take()
    with triton.InferenceServerClient(relay.address) as client:
        yield client


def tensor(name: str, array: Any, kind: str = "FP32", *, binary: bool = True) -> triton.InferInput:
    array = np.asarray(array, np.float32 if kind == "FP32" else np.int64)
    made = triton.InferInput(name, list(array.shape), kind)
    return made.set_data_from_numpy(array, binary_data=binary)


def addresses(seeds: Any, indices: Any, *, binary: bool = True) -> list[triton.InferInput]:
    return [
        tensor("seed", seeds, "INT64", binary=binary),
        tensor("index", indices, "INT64", binary=binary),
    ]


def only(relay: Recorder) -> Sent:
    (sent,) = relay.take()
    assert "Content-Type" not in sent.headers  # a server that insists on one cannot serve this client
    return sent


def parts(sent: Sent) -> tuple[Any, bytes]:
    """The document of a request, and the bytes that follow it."""
    end = int(sent.headers["Inference-Header-Content-Length"])
    return orjson.loads(sent.body[:end]), sent.body[end:]


@pytest.mark.parametrize(
    ("call", "line", "body"),
    [
        (lambda c: c.is_server_live(), "GET /v2/health/live HTTP/1.1", b""),
        (lambda c: c.is_server_ready(), "GET /v2/health/ready HTTP/1.1", b""),
        (lambda c: c.is_model_ready(SAMPLE), f"GET /v2/models/{SAMPLE}/ready HTTP/1.1", b""),
        (
            lambda c: c.is_model_ready(SAMPLE, "1"),
            f"GET /v2/models/{SAMPLE}/versions/1/ready HTTP/1.1",
            b"",
        ),
        (lambda c: c.get_server_metadata(), "GET /v2 HTTP/1.1", b""),
        (lambda c: c.get_model_metadata(SAMPLE), f"GET /v2/models/{SAMPLE} HTTP/1.1", b""),
        (
            lambda c: c.get_model_metadata(SAMPLE, "1"),
            f"GET /v2/models/{SAMPLE}/versions/1 HTTP/1.1",
            b"",
        ),
        (lambda c: c.get_model_config(SAMPLE), f"GET /v2/models/{SAMPLE}/config HTTP/1.1", b""),
        (lambda c: c.get_inference_statistics(), "GET /v2/models/stats HTTP/1.1", b""),
        (lambda c: c.get_inference_statistics(SAMPLE), f"GET /v2/models/{SAMPLE}/stats HTTP/1.1", b""),
        (lambda c: c.get_model_repository_index(), "POST /v2/repository/index HTTP/1.1", b""),
    ],
)
def test_what_the_client_asks_is_answered(
    client: triton.InferenceServerClient, relay: Recorder, call: Callable[[Any], Any], line: str, body: bytes
) -> None:
    assert call(client)
    sent = only(relay)
    assert (sent.line, sent.body) == (line, body)
    assert set(sent.headers) <= BESIDES | {"Content-Length"}


@pytest.mark.parametrize(
    ("call", "path", "body", "why"),
    [
        (lambda c: c.load_model("toy-vae"), "toy-vae/load", {}, "models folder"),
        (
            lambda c: c.load_model("toy-vae", config='{"a": 1}'),
            "toy-vae/load",
            {"parameters": {"config": '{"a": 1}'}},
            "not taken from requests",
        ),
        (
            lambda c: c.load_model("toy-vae", config="{}", files={"file:1/model.onnx": b"graph"}),
            "toy-vae/load",
            {"parameters": {"config": "{}", "file:1/model.onnx": "Z3JhcGg="}},
            "not taken from requests",
        ),
        (
            lambda c: c.unload_model("toy-vae"),
            "toy-vae/unload",
            {"parameters": {"unload_dependents": False}},
            "models folder",
        ),
    ],
)
def test_models_are_not_controlled_by_requests(
    client: triton.InferenceServerClient,
    relay: Recorder,
    call: Callable[[Any], Any],
    path: str,
    body: Any,
    why: str,
) -> None:
    with pytest.raises(InferenceServerException, match=why):
        call(client)
    sent = only(relay)
    assert sent.line == f"POST /v2/repository/models/{path} HTTP/1.1"
    assert orjson.loads(sent.body) == body


def test_an_inference_is_binary_both_ways_unless_said_otherwise(
    client: triton.InferenceServerClient, relay: Recorder
) -> None:
    result = client.infer(
        SAMPLE, addresses([7, 8], [0, 3]), request_id="mine", timeout=20_000_000, priority=1
    )
    sent = only(relay)
    assert sent.line == f"POST /v2/models/{SAMPLE}/infer HTTP/1.1"
    assert set(sent.headers) <= BESIDES | {"Content-Length", "Inference-Header-Content-Length"}
    document, data = parts(sent)
    described = {"shape": [2], "datatype": "INT64", "parameters": {"binary_data_size": 16}}
    assert document == {
        "id": "mine",
        "inputs": [{"name": "seed", **described}, {"name": "index", **described}],
        "parameters": {"priority": 1, "timeout": 20_000_000, "binary_data_output": True},
    }
    assert data == np.array([7, 8, 0, 3], "<i8").tobytes()
    answer = result.get_response()
    assert (answer["id"], answer["model_name"], answer["model_version"]) == ("mine", SAMPLE, "1")
    assert result.as_numpy("samples").shape == (2, *toy.ITEM)


def test_tensors_travel_as_json_where_the_client_wants_it(
    client: triton.InferenceServerClient, relay: Recorder
) -> None:
    wanted = [triton.InferRequestedOutput("samples", binary_data=False)]
    result = client.infer(SAMPLE, addresses([7], [2], binary=False), outputs=wanted)
    sent = only(relay)
    assert set(sent.headers) <= BESIDES | {"Content-Length"}
    assert orjson.loads(sent.body) == {
        "inputs": [
            {"name": "seed", "shape": [1], "datatype": "INT64", "data": [7]},
            {"name": "index", "shape": [1], "datatype": "INT64", "data": [2]},
        ],
        "outputs": [{"name": "samples", "parameters": {"binary_data": False}}],
    }
    (output,) = result.get_response()["outputs"]
    assert len(output["data"]) == toy.PIXELS
    binary = client.infer(SAMPLE, addresses([7], [2]))
    np.testing.assert_array_equal(binary.as_numpy("samples"), result.as_numpy("samples"))


def test_inputs_and_outputs_may_mix_bytes_and_json(
    client: triton.InferenceServerClient, relay: Recorder
) -> None:
    wanted = [
        triton.InferRequestedOutput("log_variance", binary_data=False),
        triton.InferRequestedOutput("mean", binary_data=True),
    ]
    items = toy.items(3)
    mixed = client.infer("toy-vae.encode", [tensor("inputs", items, binary=False)], outputs=wanted)
    assert orjson.loads(only(relay).body)["inputs"][0]["data"] == items.ravel().tolist()
    assert [output["name"] for output in mixed.get_response()["outputs"]] == ["log_variance", "mean"]
    plain = client.infer("toy-vae.encode", [tensor("inputs", items)])
    for name in ("mean", "log_variance"):
        np.testing.assert_array_equal(mixed.as_numpy(name), plain.as_numpy(name))


@pytest.mark.parametrize("request_encoding", [None, "gzip", "deflate"])
@pytest.mark.parametrize("answer_encoding", [None, "gzip", "deflate"])
def test_bodies_may_be_compressed_both_ways(
    client: triton.InferenceServerClient, relay: Recorder, request_encoding: Any, answer_encoding: Any
) -> None:
    items = toy.items(2_000)
    result = client.infer(
        "toy-vae.reconstruct",
        [tensor("inputs", items)],
        request_compression_algorithm=request_encoding,
        response_compression_algorithm=answer_encoding,
    )
    sent = only(relay)
    assert sent.headers.get("Content-Encoding") == request_encoding
    assert sent.headers.get("Accept-Encoding") == answer_encoding
    assert (len(sent.body) < items.nbytes) == (request_encoding is not None)
    plain = client.infer("toy-vae.reconstruct", [tensor("inputs", items)])
    np.testing.assert_array_equal(result.as_numpy("reconstructions"), plain.as_numpy("reconstructions"))


def test_a_client_that_takes_many_encodings_gets_none(service: RunningService) -> None:
    body = {"inputs": [{"name": "latents", "shape": [1, 2], "datatype": "FP32", "data": [0, 1]}]}
    answer = service.client.post("/v2/models/toy-vae.decode/infer", json=body)
    assert "," in answer.request.headers["accept-encoding"]
    assert "content-encoding" not in answer.headers


def test_raw_bytes_are_as_many_rows_as_they_have(
    client: triton.InferenceServerClient, relay: Recorder, service: RunningService
) -> None:
    items = toy.items(5)
    raw = triton.InferInput("inputs", [5, *toy.ITEM], "FP32")
    raw.set_data_from_numpy(items)
    body = items.tobytes()
    answer = service.client.post(
        "/v2/models/toy-vae.encode/infer", content=body, headers={"Inference-Header-Content-Length": "0"}
    )
    assert answer.headers["content-type"] == "application/octet-stream"
    end = int(answer.headers["inference-header-content-length"])
    read = client.parse_response_body(answer.content, header_length=end)
    plain = client.infer("toy-vae.encode", [raw])
    for name in ("mean", "log_variance"):
        np.testing.assert_array_equal(read.as_numpy(name), plain.as_numpy(name))
    relay.take()


def test_parameters_are_those_of_the_operation(client: triton.InferenceServerClient, relay: Recorder) -> None:
    inputs = [tensor("inputs", toy.items(4))]
    one = client.infer(SCORE, inputs, parameters={"draws": 1, "seed": 3, "alpha": 0.2})
    document, _ = parts(only(relay))
    assert document["parameters"] == {"draws": 1, "seed": 3, "alpha": 0.2, "binary_data_output": True}
    told = one.get_response()["parameters"]
    assert (told["draws"], told["seed"], told["alpha"]) == (1, 3, 0.2)
    # what was not calibrated, or has no error, is left out, as it is null in /v1
    assert one.as_numpy("p_value") is None
    assert one.as_numpy("anomaly") is None
    assert one.as_numpy("standard_error") is None
    wanted = [triton.InferRequestedOutput("p_value")]
    with pytest.raises(InferenceServerException, match="calibrated"):
        client.infer(SCORE, inputs, outputs=wanted, parameters={"draws": 1})
    assert client.infer(SCORE, inputs, outputs=wanted).as_numpy("p_value").shape == (4,)
    drawn = client.infer(SAMPLE, addresses([1, 2], [0, 0]), parameters={"output": "draw"}).as_numpy("samples")
    assert set(np.unique(drawn)) <= {0.0, 1.0}


@pytest.mark.anyio
async def test_the_asynchronous_client_makes_the_same_tour(relay: Recorder) -> None:
    relay.take()
    async with triton_aio.InferenceServerClient(relay.address) as client:
        assert await client.is_server_live()
        assert await client.is_server_ready()
        assert await client.is_model_ready(SAMPLE)
        assert (await client.get_server_metadata())["name"] == "pushforward"
        assert (await client.get_model_metadata(SAMPLE))["name"] == SAMPLE
        assert (await client.get_model_config(SAMPLE))["name"] == SAMPLE
        assert await client.get_model_repository_index()
        assert (await client.get_inference_statistics(SAMPLE))["model_stats"]
        assert [sent.line.split()[1] for sent in relay.take()] == [
            "/v2/health/live",
            "/v2/health/ready",
            f"/v2/models/{SAMPLE}/ready",
            "/v2",
            f"/v2/models/{SAMPLE}",
            f"/v2/models/{SAMPLE}/config",
            "/v2/repository/index",
            f"/v2/models/{SAMPLE}/stats",
        ]
        plain = await client.infer(SAMPLE, addresses([7, 8], [0, 3]))
        for encoding in ("gzip", "deflate"):
            result = await client.infer(
                SAMPLE,
                addresses([7, 8], [0, 3]),
                request_compression_algorithm=encoding,
                response_compression_algorithm=encoding,
            )
            np.testing.assert_array_equal(result.as_numpy("samples"), plain.as_numpy("samples"))
        with pytest.raises(InferenceServerException, match="no model of that name"):
            await client.infer("absent.sample", addresses([1], [1]))
        with pytest.raises(InferenceServerException, match="models folder"):
            await client.load_model("toy-vae")


def test_rows_of_different_seeds_share_a_request(client: triton.InferenceServerClient) -> None:
    seeds, indices = [5, 5, 2**53 - 1, 0, 5], [0, 1, 9, 2**53 - 1, 0]
    for model in ("toy-vae.sample", "mixture-vae.sample", "fashion-gan.sample"):
        together = client.infer(model, addresses(seeds, indices)).as_numpy("samples")
        for row, (seed, index) in enumerate(zip(seeds, indices, strict=True)):
            alone = client.infer(model, addresses([seed], [index])).as_numpy("samples")
            np.testing.assert_array_equal(together[row], alone[0])
        np.testing.assert_array_equal(together[0], together[4])


def test_metadata_and_configuration_describe_the_same_tensors(
    client: triton.InferenceServerClient, service: RunningService
) -> None:
    (toy_vae,) = [m for m in service.client.get("/v1/models").json()["models"] if m["name"] == "toy-vae"]
    names = {entry["name"] for entry in client.get_model_repository_index()}
    for operation in set(toy_vae["operations"]) - {"interpolate", "read"}:
        name = f"toy-vae.{operation}"
        assert name in names
        metadata, config = client.get_model_metadata(name), client.get_model_config(name)
        assert (metadata["versions"], metadata["platform"]) == (["1"], config["platform"])
        assert config["max_batch_size"] > 0
        for ours, theirs in (("inputs", "input"), ("outputs", "output")):
            for described, configured in zip(metadata[ours], config[theirs], strict=True):
                assert described["name"] == configured["name"]
                assert f"TYPE_{described['datatype']}" == configured["data_type"]
                assert described["shape"] == [-1, *configured["dims"]]


def test_statistics_count_requests_rows_and_failures(client: triton.InferenceServerClient) -> None:
    def counted() -> Any:
        (stats,) = client.get_inference_statistics("toy-vae.decode")["model_stats"]
        return stats

    before = counted()
    client.infer("toy-vae.decode", [tensor("latents", np.zeros((6, 2)))])
    with pytest.raises(InferenceServerException):
        client.infer("toy-vae.decode", [tensor("latents", np.full((1, 2), np.nan))])
    after = counted()
    assert after["inference_count"] - before["inference_count"] == 6
    assert after["execution_count"] > before["execution_count"]
    for outcome in ("success", "fail", "queue", "compute_input", "compute_infer", "compute_output"):
        was, now = before["inference_stats"][outcome], after["inference_stats"][outcome]
        assert now["count"] - was["count"] == 1, outcome
    assert after["inference_stats"]["compute_infer"]["ns"] > before["inference_stats"]["compute_infer"]["ns"]


def test_models_are_loaded_and_unloaded_by_request_where_that_is_enabled(tmp_path: Path) -> None:
    toy.publish_toy(tmp_path)
    with running_service(tmp_path, "--repository-control") as service:
        client = triton.InferenceServerClient(service.url.removeprefix("http://"))
        client.unload_model("toy-vae")
        assert not client.is_model_ready("toy-vae.sample")
        assert {entry["state"] for entry in client.get_model_repository_index()} == {"UNAVAILABLE"}
        client.load_model("toy-vae.sample")
        assert client.is_model_ready("toy-vae.sample")
        with pytest.raises(InferenceServerException, match="no model of that name"):
            client.load_model("unknown")
        client.close()


def test_several_processes_take_no_control_by_request() -> None:
    command = [sys.executable, "-m", "service", "--repository-control", "--processes", "2"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 2
    assert "take --processes 1" in ended.stderr
