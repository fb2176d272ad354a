"""The same numbers by every way: `/v1` as JSON and npy, `/v2` as JSON and binary, and gRPC."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import httpx
import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton
from numpy.typing import NDArray

from tests import toy
from tests.serving import RunningService, as_npy, npy

Arrays = Mapping[str, NDArray[Any]]
Infer = Callable[[str, Arrays], Arrays]
COUNT = 70
"""More than a batch."""
DATATYPES = {"i": "INT64", "f": "FP32"}


@pytest.fixture(scope="module")
def protocol(service: RunningService) -> Iterator[dict[str, Infer]]:
    """Every way to infer by the protocol: arrays in, all outputs but those that are left out."""
    with (
        triton.InferenceServerClient(service.url.removeprefix("http://")) as client,
        triton_grpc.InferenceServerClient(service.grpc_address) as grpc_client,
    ):
        yield {
            "grpc": lambda model, arrays: _by_grpc(grpc_client, model, arrays),
            "json": lambda model, arrays: _by_http(client, model, arrays, binary=False),
            "binary": lambda model, arrays: _by_http(client, model, arrays, binary=True),
        }


def _by_http(
    client: triton.InferenceServerClient, model: str, arrays: Arrays, *, binary: bool
) -> dict[str, NDArray[Any]]:
    inputs = [
        triton.InferInput(name, list(array.shape), DATATYPES[array.dtype.kind]).set_data_from_numpy(
            array, binary_data=binary
        )
        for name, array in arrays.items()
    ]
    described = client.infer(model, inputs).get_response()["outputs"]
    wanted = [triton.InferRequestedOutput(output["name"], binary_data=binary) for output in described]
    result = client.infer(model, inputs, outputs=wanted)
    return {output["name"]: result.as_numpy(output["name"]) for output in described}


def _by_grpc(
    client: triton_grpc.InferenceServerClient, model: str, arrays: Arrays
) -> dict[str, NDArray[Any]]:
    inputs = []
    for name, array in arrays.items():
        made = triton_grpc.InferInput(name, list(array.shape), DATATYPES[array.dtype.kind])
        inputs.append(made.set_data_from_numpy(array))
    result = client.infer(model, inputs)
    return {output.name: result.as_numpy(output.name) for output in result.get_response().outputs}


def _equal(ways: Mapping[str, Infer], model: str, arrays: Arrays, wanted: Arrays) -> None:
    for way, infer in ways.items():
        got = infer(model, arrays)
        assert set(got) == set(wanted), way
        for name, values in wanted.items():
            assert got[name].dtype == values.dtype, (way, name)
            np.testing.assert_array_equal(got[name], values, err_msg=f"{name} of {model} by {way}")


@pytest.mark.parametrize("model", ["toy-vae", "mixture-vae", "fashion-vae", "ring-gan"])
def test_samples_are_the_same_by_every_way(
    client: httpx.Client, protocol: dict[str, Infer], model: str
) -> None:
    path, body = f"/v1/models/{model}/sample", {"seed": 11, "offset": 5, "count": COUNT}
    as_json = np.array(client.post(path, json=body).json()["samples"], np.float32)
    as_array = npy(client.post(path, json=body, headers={"accept": "application/x-npy"}))
    np.testing.assert_array_equal(as_json, as_array)
    addresses = {"seed": np.full(COUNT, 11), "index": np.arange(5, 5 + COUNT)}
    _equal(protocol, f"{model}.sample", addresses, {"samples": as_array})
    order = np.random.default_rng(0).permutation(COUNT)
    scattered = {name: array[order] for name, array in addresses.items()}
    _equal(protocol, f"{model}.sample", scattered, {"samples": as_array[order]})


def test_decoding_is_the_same_by_every_way(client: httpx.Client, protocol: dict[str, Infer]) -> None:
    latents = np.random.default_rng(1).normal(size=(COUNT, toy.LATENT)).astype(np.float32)
    path, headers = "/v1/models/toy-vae/decode", {"accept": "application/x-npy"}
    by_json = npy(client.post(path, json={"latents": latents.tolist()}, headers=headers))
    headers["content-type"] = "application/x-npy"
    by_npy = npy(client.post(path, content=as_npy(latents), headers=headers))
    np.testing.assert_array_equal(by_json, by_npy)
    _equal(protocol, "toy-vae.decode", {"latents": latents}, {"samples": by_npy})


@pytest.mark.parametrize("operation", ["encode", "reconstruct"])
def test_codes_are_the_same_by_every_way(
    client: httpx.Client, protocol: dict[str, Infer], operation: str
) -> None:
    items = toy.items(COUNT)
    answer = client.post(f"/v1/models/toy-vae/{operation}", json={"inputs": items.tolist()}).json()
    names = ("mean", "log_variance") if operation == "encode" else ("reconstructions", "latents")
    wanted = {name: np.array(answer[name], np.float32) for name in names}
    _equal(protocol, f"toy-vae.{operation}", {"inputs": items}, wanted)


def test_scores_are_the_same_by_every_way(client: httpx.Client, protocol: dict[str, Infer]) -> None:
    items = toy.items(COUNT)
    by_json = client.post("/v1/models/toy-vae/score", json={"inputs": items.tolist()}).json()
    headers = {"content-type": "application/x-npy"}
    by_npy = client.post("/v1/models/toy-vae/score", content=as_npy(items), headers=headers).json()
    assert by_json == by_npy
    rows = by_json["scores"]
    kinds = {"anomaly": np.bool_}  # a null among the others is NaN
    wanted = {name: np.array([row[name] for row in rows], kinds.get(name, np.float64)) for name in rows[0]}
    _equal(protocol, "toy-vae.score", {"inputs": items}, wanted)


@pytest.mark.parametrize("operation", ["score", "discriminate"])
def test_what_a_gan_says_is_the_same_by_every_way(
    client: httpx.Client, protocol: dict[str, Infer], operation: str
) -> None:
    items = np.random.default_rng(3).random((5, 1, 28, 28)).astype(np.float32)
    answer = client.post(f"/v1/models/fashion-gan/{operation}", json={"inputs": items.tolist()}).json()
    rows = answer["scores"]
    wanted = {name: np.array([row[name] for row in rows]) for name in rows[0] if rows[0][name] is not None}
    _equal(protocol, f"fashion-gan.{operation}", {"inputs": items}, wanted)
