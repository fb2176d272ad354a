"""Requests that are as they should be: every operation and format, by `/v1`, `/v2` and gRPC."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
from tritonclient.grpc import service_pb2

from service.media.pictures import write_png
from tests import toy
from tests.serving import as_npy
from tests.soak.asking import Client, Question

OK = frozenset(["200"])
SEEDS = 8
"""The number of seeds that each request comes with, so that its answers can be compared with earlier ones."""
JSON, NPY, PNG = "application/json", "application/x-npy", "image/png"
_LARGE_COUNT = 10_000
_LONG_DRAWS = 100


def good_questions(picture: str, gan: str, table: str, swapped: str) -> Iterator[Question]:
    """Questions to a VAE of pictures (1, 8, 8), a GAN of points, a VAE of a table, and a changing toy."""
    item = np.random.default_rng(0).random((1, 8, 8)).round(3)
    points = np.random.default_rng(0).normal(size=(16, 2)).astype(np.float32)
    pixels = (item[0] * 255).astype(np.uint8)
    items = {"inputs": [item.tolist()] * 2}
    for name, model in (("picture", picture), ("gan", gan), ("table", table), ("swapped", swapped)):
        yield _seeded(f"sample of a {name}", model, "sample", lambda seed: {"seed": seed, "count": 4}, JSON)
        yield _seeded(
            f"samples of a {name} as npy", model, "sample", lambda seed: {"seed": seed, "count": 200}, NPY
        )
    yield _seeded(
        "streamed samples", picture, "sample", lambda seed: {"seed": seed, "count": _LARGE_COUNT}, NPY
    )
    yield _seeded("a grid of samples", picture, "sample", lambda seed: {"seed": seed, "count": 16}, PNG)
    yield _seeded("a density", gan, "sample", lambda seed: {"seed": seed, "count": 4_000}, PNG)
    chosen = {"method": "rejection", "budget": 16, "count": 64}
    yield _seeded("chosen samples", gan, "sample", lambda seed: chosen | {"seed": seed}, NPY)
    ends = {"to": {"seed": 99}, "steps": 9}
    for model in (picture, gan, swapped):
        yield _seeded(
            f"a path of {model}", model, "interpolate", lambda seed: ends | {"from": {"seed": seed}}, NPY
        )
    yield _seeded(
        "decoded latents",
        swapped,
        "decode",
        lambda seed: {"latents": [[seed / 8, 1.0]] * 3},
        JSON,
    )
    for operation in ("encode", "reconstruct"):
        yield Question(operation, _posted(picture, operation, json.dumps(items).encode(), {}), OK)
        packed = gzip.compress(json.dumps(items).encode())
        yield Question(
            f"{operation}, gzip",
            _posted(picture, operation, packed, {"content-encoding": "gzip"}),
            OK,
        )
        png = write_png(pixels)
        yield Question(f"{operation} of a PNG", _posted(picture, operation, png, {"content-type": PNG}), OK)
    yield _seeded("scores", picture, "score", lambda seed: items | {"seed": seed, "draws": 16}, JSON)
    many = as_npy(np.repeat(item[None], 64, axis=0).astype(np.float32))
    yield Question(
        "long scores",
        _posted(picture, f"score?draws={_LONG_DRAWS}", many, {"content-type": NPY}),
        OK,
    )
    yield Question("logits", _posted(gan, "discriminate", as_npy(points), {"content-type": NPY}), OK)
    table_rows = as_npy(np.zeros((64, 30), np.float32))
    yield Question("scores of rows", _posted(table, "score", table_rows, {"content-type": NPY}), OK)
    for path in (
        "/v1/models",
        f"/v1/models/{picture}",
        "/healthz",
        "/readyz",
        "/metrics",
        "/docs",
        "/openapi.json",
        "/",
        "/v2",
        f"/v2/models/{picture}.sample",
        f"/v1/models/{picture}/sample?seed=1",
    ):
        yield Question(f"GET {path}", partial(_got, "GET", path), OK)
    yield Question("HEAD", partial(_got, "HEAD", f"/v1/models/{picture}/sample?seed=1"), OK)
    yield Question("/v2 in JSON", _inferred(swapped, compress=False), OK)
    yield Question("/v2 in JSON, gzip", _inferred(swapped, compress=True), OK)
    yield Question("/v2 in bytes", _inferred_in_bytes(picture), OK)
    yield Question("gRPC", _called(swapped), frozenset(["OK"]))


def _got(method: str, path: str, client: Client) -> str:
    return str(client.ask(method, path)[0])


def _seeded(
    name: str, model: str, operation: str, body: Callable[[int], dict[str, Any]], accept: str
) -> Question:
    """A request whose answer depends on a seed and the version alone."""

    def ask(client: Client) -> str:
        seed = client.random.randrange(SEEDS)
        path = f"/v1/models/{model}/{operation}"
        status, headers, content = client.ask(
            "POST", path, json.dumps(body(seed)).encode(), {"accept": accept}
        )
        if status == 200:
            version = headers.get("x-pushforward-version", "")
            client.findings.check_same(f"{name}, seed {seed}", version, content)
        return str(status)

    return Question(name, ask, OK)


def _posted(model: str, operation: str, body: bytes, headers: Mapping[str, str]) -> Callable[[Client], str]:
    return lambda client: str(client.ask("POST", f"/v1/models/{model}/{operation}", body, headers)[0])


def _inferred(model: str, *, compress: bool) -> Callable[[Client], str]:
    inputs = [{"name": "inputs", "shape": [2, 1, 2, 2], "datatype": "FP32", "data": toy.items(2).tolist()}]
    body = json.dumps({"inputs": inputs}).encode()
    headers = {"content-encoding": "gzip", "accept-encoding": "gzip"} if compress else {}
    body = gzip.compress(body) if compress else body
    return lambda client: str(client.ask("POST", f"/v2/models/{model}.score/infer", body, headers)[0])


def _inferred_in_bytes(model: str) -> Callable[[Client], str]:
    def ask(client: Client) -> str:
        rows = client.random.randrange(1, 64)
        seeds = np.arange(rows, dtype=np.int64).tobytes()
        tensor = {"shape": [rows], "datatype": "INT64", "parameters": {"binary_data_size": len(seeds)}}
        head = {
            "inputs": [tensor | {"name": "seed"}, tensor | {"name": "index"}],
            "parameters": {"binary_data_output": True},
        }
        document = json.dumps(head).encode()
        headers = {"inference-header-content-length": str(len(document))}
        path = f"/v2/models/{model}.sample/infer"
        return str(client.ask("POST", path, document + seeds + seeds, headers)[0])

    return ask


def _called(model: str) -> Callable[[Client], str]:
    def ask(client: Client) -> str:
        message = service_pb2.ModelInferRequest(model_name=f"{model}.decode")
        message.inputs.add(name="latents", datatype="FP32", shape=[1, 2])
        message.raw_input_contents.append(np.array([client.random.random(), 1], np.float32).tobytes())
        infer = client.rpc.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            request_serializer=service_pb2.ModelInferRequest.SerializeToString,
            response_deserializer=service_pb2.ModelInferResponse.FromString,
        )
        _, call = infer.with_call(message, timeout=60)
        return str(call.code().name)

    return ask
