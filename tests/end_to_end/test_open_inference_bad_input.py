"""Requests to the Open Inference Protocol's paths that no client of it would send."""

from __future__ import annotations

import json
import zlib
from typing import Any

import httpx
import numpy as np
import pytest

from tests import toy
from tests.serving import RunningService


def document(**changes: Any) -> dict[str, Any]:
    latents = {"name": "latents", "shape": [1, 2], "datatype": "FP32", "data": [0.5, 1]} | changes
    return {"inputs": [{key: value for key, value in latents.items() if value is not None}]}


SAMPLES: dict[str, Any] = {"name": "samples"}
BINARY = {"data": None, "parameters": {"binary_data_size": 8}}


@pytest.mark.parametrize(
    ("body", "tail", "says"),
    [
        (document(name="latent"), b"", "takes latents"),
        (document(datatype="FP64"), b"", "takes the datatype FP32, and came as FP64"),
        (document(shape=[2, 1]), b"", "wanted [rows, 2]"),
        (document(shape=[2]), b"", "wanted [rows, 2]"),
        (document(shape=[0, 2], data=[]), b"", "at least one row"),
        (document(shape=[-1, 2]), b"", "shape"),
        (document(shape=[2**40, 2]), b"", "rows"),
        (document(shape=[1] * 20), b"", "shape"),
        (document(data=[0.5]), b"", "shape"),
        (document(data=[[0.5], [1]]), b"", "shape"),
        (document(data=[[0.5], 1]), b"", "ragged"),
        (document(data=["0.5", 1]), b"", "numbers"),
        (document(data=[None, 1]), b"", "numbers"),
        (document(data=[True, False]), b"", "numbers"),
        (document(data=[0.5, True]), b"", "numbers"),
        (document(data=[1e300, 1]), b"", "numbers from"),
        (document(parameters={"binary_data_size": 8}), b"", "either data or"),
        (document(data=None), b"", "either data or"),
        (document(**BINARY), b"", "bytes that follow"),
        (document(**BINARY), b"1234567", "bytes that follow"),
        (document(**BINARY), b"123456789", "belong to no input"),
        (
            document(**BINARY | {"parameters": {"binary_data_size": -8}}),
            b"12345678",
            "bytes that follow",
        ),
        (document(**BINARY | {"parameters": {"binary_data_size": 4}}), b"1234", "has 4 bytes"),
        (document(**BINARY), np.array([np.nan, 0], "<f4").tobytes(), "rows 0"),
        ({"inputs": document()["inputs"] * 2}, b"", "twice"),
        ({"inputs": []}, b"", "latents did not come"),
        ({}, b"", "inputs"),
        (document() | {"outputs": [{"name": "nothing"}]}, b"", "gives samples"),
        (document() | {"outputs": [SAMPLES] * 2}, b"", "each once"),
        (
            document() | {"outputs": [SAMPLES | {"parameters": {"binary_data": 1}}]},
            b"",
            "true or",
        ),
        (document() | {"outputs": [SAMPLES | {"parameters": {"classification": 3}}]}, b"", "classification"),
        (document() | {"parameters": {"colour": "red"}}, b"", "unknown key"),
        (document() | {"parameters": {"timeout": "soon"}}, b"", "microseconds"),
        (document() | {"parameters": {"timeout": -1}}, b"", "microseconds"),
        (document() | {"parameters": {"timeout": 10**400}}, b"", "microseconds"),
        (document() | {"parameters": {"sequence_id": 4}}, b"", "sequences"),
        (document() | {"id": 7}, b"", "id"),
    ],
)
def test_a_request_that_does_not_fit_says_why(
    service: RunningService, body: Any, tail: bytes, says: str
) -> None:
    text = json.dumps(body).encode()
    binary = tail or "binary_data_size" in str(body)
    headers = {"Inference-Header-Content-Length": str(len(text))} if binary else {}
    answer = service.client.post("/v2/models/toy-vae.decode/infer", content=text + tail, headers=headers)
    assert answer.status_code == 422, answer.text
    assert list(answer.json()) == ["error"]
    assert says in answer.json()["error"]


@pytest.mark.parametrize(
    ("method", "path", "headers", "content", "status"),
    [
        ("GET", "/v2/nothing", {}, b"", 404),
        ("GET", "/v2/models", {}, b"", 404),
        ("GET", "/v2/models/absent.sample", {}, b"", 404),
        ("GET", "/v2/models/toy-vae", {}, b"", 404),
        ("GET", "/v2/models/toy-vae.discriminate", {}, b"", 404),
        ("GET", "/v2/models/toy-vae.interpolate/config", {}, b"", 404),
        ("GET", "/v2/models/toy-vae.sample/versions/9", {}, b"", 404),
        ("GET", "/v2/models/toy-vae.sample/infer", {}, b"", 405),
        ("DELETE", "/v2", {}, b"", 405),
        ("POST", "/v2/models/toy-vae.decode/infer", {}, b"{", 400),
        ("POST", "/v2/models/toy-vae.decode/infer", {"Inference-Header-Content-Length": "9"}, b"{}", 400),
        ("POST", "/v2/models/toy-vae.decode/infer", {"Inference-Header-Content-Length": "-1"}, b"{}", 400),
        ("POST", "/v2/models/toy-vae.decode/infer", {"Inference-Header-Content-Length": "x"}, b"{}", 400),
        (
            "POST",
            "/v2/models/toy-vae.decode/infer",
            {"Inference-Header-Content-Length": "0" * 5000},
            b"{}",
            400,
        ),
        ("POST", "/v2/models/toy-vae.decode/infer", {"Inference-Header-Content-Length": "0"}, b"1234", 422),
        ("POST", "/v2/models/toy-vae.sample/infer", {"Inference-Header-Content-Length": "0"}, b"1234", 422),
        ("POST", "/v2/models/toy-vae.decode/infer", {"Content-Encoding": "gzip"}, b"nothing", 400),
        ("POST", "/v2/models/toy-vae.decode/infer", {"Content-Encoding": "br"}, b"nothing", 415),
        ("POST", "/v2/models/toy-vae.decode/infer", {"x-request-timeout-seconds": "no"}, b"{}", 422),
        ("POST", "/v2/repository/index", {}, b"[", 400),
        ("POST", "/v2/models/toy-vae.decode/infer", {}, b" " * 40 * 2**20, 413),
    ],
)
def test_every_error_is_what_the_clients_of_the_protocol_read(
    service: RunningService, method: str, path: str, headers: dict[str, str], content: bytes, status: int
) -> None:
    answer = service.client.request(method, path, headers=headers, content=content)
    assert answer.status_code == status, answer.text
    assert list(answer.json()) == ["error"]
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-request-id"]


def test_a_body_that_inflates_past_the_limit_is_refused(service: RunningService) -> None:
    bomb = zlib.compress(bytes(2**24))
    answer = service.client.post(
        "/v2/models/toy-vae.decode/infer", content=bomb, headers={"Content-Encoding": "deflate"}
    )
    assert answer.status_code == 413
    assert "decompressed" in answer.json()["error"]


def test_a_request_is_given_up_at_its_timeout(service: RunningService) -> None:
    """5 000 draws of 64 items take far longer than 5 milliseconds."""
    items = toy.items(64).ravel().tolist()
    body = {
        "inputs": [{"name": "inputs", "shape": [64, *toy.ITEM], "datatype": "FP32", "data": items}],
        "parameters": {"draws": 5_000, "timeout": 5_000},
    }
    answer = service.client.post("/v2/models/toy-vae.score/infer", json=body)
    assert answer.status_code == 504
    assert answer.json() == {"error": "the answer was not ready in time; ask for less"}


def test_nothing_that_a_client_sends_is_echoed_but_its_id(client: httpx.Client) -> None:
    secret = "correct-horse-battery-staple"
    for path, body in (
        ("/v2/models/toy-vae.decode/infer", document(name=secret)),
        ("/v2/models/toy-vae.decode/infer", document(datatype=secret)),
        ("/v2/models/toy-vae.decode/infer", document(data=[secret, 1])),
        (
            "/v2/models/toy-vae.decode/infer",
            document() | {"outputs": [SAMPLES | {"parameters": {secret: 1}}]},
        ),
        ("/v2/models/toy-vae.decode/infer", document() | {"parameters": {secret: 1}}),
        ("/v2/models/toy-vae.decode/infer", document() | {"outputs": [{"name": secret}]}),
        (f"/v2/models/{secret}/infer", document()),
        (f"/v2/models/toy-vae.{secret}/infer", document()),
        (f"/v2/models/toy-vae.decode/versions/{secret}/infer", document()),
        (f"/v2/repository/models/{secret}/load", {}),
    ):
        answer = client.post(path, json=body)
        assert 400 <= answer.status_code < 500
        assert secret not in answer.text
    named = client.post("/v2/models/toy-vae.decode/infer", json=document() | {"id": secret})
    assert named.json()["id"] == secret


def test_the_content_type_of_mlservers_clients_is_ignored_wherever_it_stands(service: RunningService) -> None:
    path, named = "/v2/models/toy-vae.decode/infer", {"parameters": {"content_type": "np"}}
    plain = service.client.post(path, json=document())
    typed = document(**named) | named | {"outputs": [SAMPLES | named]}
    answer = service.client.post(path, json=typed)
    assert answer.status_code == 200, answer.text
    assert answer.json()["outputs"] == plain.json()["outputs"]
