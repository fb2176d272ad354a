"""Bad input: every kind has its status and code, nothing is echoed, and the service serves on."""

import io
import json
import struct
import zlib
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from tests import toy
from tests.serving import as_npy, as_picture

TOY = "/v1/models/toy-vae"
TABLE = "/v1/models/toy-table"
ROW = toy.items(1).tolist()[0]


def picture(width: int, height: int, kind: str = "PNG", mode: str = "L") -> bytes:
    return as_picture(Image.new(mode, (width, height)), kind)


def png_bomb() -> bytes:
    """A small PNG whose header claims 50 000 x 50 000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b""))
        + chunk(b"IEND", b"")
    )


JSON_CASES = [
    ("sample", b'{"count": 1', 400, "malformed"),
    ("sample", b'{"count": 1} trailing', 400, "malformed"),
    ("sample", b"\xff\xfe", 400, "malformed"),
    ("sample", b'{"method": "\\ud800"}', 400, "malformed"),
    ("sample", b"[" * 10_000, 400, "malformed"),
    ("sample", b"[" * 100_000, 413, "body_too_large"),
    ("sample", b"[]", 422, "unfit"),
    ("sample", b'{"count": 0}', 422, "unfit"),
    ("sample", b'{"count": -1}', 422, "unfit"),
    ("sample", b'{"count": true}', 422, "unfit"),
    ("sample", b'{"count": 1.0}', 422, "unfit"),
    ("sample", b'{"count": "1"}', 422, "unfit"),
    ("sample", b'{"count": 4097}', 422, "limit_exceeded"),
    ("sample", b'{"count": 1000000000}', 422, "limit_exceeded"),
    ("sample", b'{"seed": -1}', 422, "unfit"),
    ("sample", b'{"seed": 9007199254740992}', 422, "unfit"),
    ("sample", b'{"seed": 123456789012345678901234567890}', 422, "unfit"),
    ("sample", b'{"count": 2, "offset": 9007199254740991}', 422, "unfit"),
    ("sample", b'{"temperature": NaN}', 422, "unfit"),
    ("sample", b'{"temperature": 1e400}', 422, "unfit"),
    ("sample", b'{"temperature": -0.5}', 422, "unfit"),
    ("sample", b'{"colour": "red"}', 422, "unfit"),
    ("sample", b'{"method": "rejection"}', 404, "operation_not_offered"),
    ("sample", b'{"method": "annealing"}', 422, "unfit"),
    ("sample", b'{"budget": 16}', 422, "unfit"),
    ("interpolate", b"{}", 422, "unfit"),
    ("interpolate", b'{"from": {"seed": 1}, "to": {"seed": 2}, "steps": 1}', 422, "unfit"),
    ("interpolate", b'{"from": {"seed": 1}, "to": {"seed": 2}, "steps": 1025}', 422, "limit_exceeded"),
    ("interpolate", b'{"from": {"seed": 1, "latent": [0, 0]}, "to": {"seed": 2}}', 422, "unfit"),
    ("interpolate", b'{"from": {}, "to": {"seed": 2}}', 422, "unfit"),
    ("interpolate", b'{"from": {"seed": null}, "to": {"seed": 2}}', 422, "unfit"),
    ("interpolate", b'{"from": {"latent": [0]}, "to": {"seed": 2}}', 422, "unfit"),
    ("interpolate", b'{"from": {"latent": [1e39, 0]}, "to": {"seed": 2}}', 422, "unfit"),
    ("interpolate", b'{"from": {"input": [[[true, 0], [0, 0]]]}, "to": {"seed": 2}}', 422, "unfit"),
    ("decode", b"{}", 422, "unfit"),
    ("decode", b'{"latents": []}', 422, "unfit"),
    ("decode", b'{"latents": [[]]}', 422, "unfit"),
    ("decode", b'{"latents": [[1, 2, 3]]}', 422, "unfit"),
    ("decode", b'{"latents": [[1, 2], [3]]}', 422, "unfit"),
    ("decode", b'{"latents": [[[1, 2]]]}', 422, "unfit"),
    ("decode", b'{"latents": [[1, true]]}', 422, "unfit"),
    ("decode", b'{"latents": [[1, "2"]]}', 422, "unfit"),
    ("decode", b'{"latents": [[1, 1e39]]}', 422, "unfit"),
    ("decode", b'{"latents": [' + b",".join([b"[0,0]"] * 1025) + b"]}", 422, "limit_exceeded"),
    ("encode", b'{"inputs": [[[[0, 1e999], [0, 0]]]]}', 422, "unfit"),
    ("score", json.dumps({"inputs": [ROW], "draws": 0}).encode(), 422, "unfit"),
    ("score", json.dumps({"inputs": [ROW], "draws": 5001}).encode(), 422, "limit_exceeded"),
    ("score", json.dumps({"inputs": [ROW] * 201, "draws": 5000}).encode(), 422, "limit_exceeded"),
    ("score", json.dumps({"inputs": [ROW], "alpha": 0}).encode(), 422, "unfit"),
    ("score", json.dumps({"inputs": [ROW], "alpha": 1e-9}).encode(), 422, "limit_exceeded"),
    (
        "score",
        json.dumps({"inputs": [ROW], "draws": 3, "seed": 1, "correction": "benjamini-hochberg"}).encode(),
        422,
        "unfit",
    ),
    ("score", json.dumps({"inputs": [ROW], "statistic": "energy"}).encode(), 422, "unfit"),
]


@pytest.mark.parametrize(("operation", "body", "status", "code"), JSON_CASES)
def test_bad_json_is_refused(
    client: httpx.Client, operation: str, body: bytes, status: int, code: str
) -> None:
    response = client.post(f"{TOY}/{operation}", content=body, headers={"content-type": "application/json"})
    assert (response.status_code, response.json()["code"]) == (status, code), response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert len(response.content) < 8_000


HEADERS = [
    "{'descr': (",
    "{'descr': (), 'fortran_order': False, 'shape': (1,)}",
    *(
        "{'descr': '<f4', 'fortran_order': False, 'shape': " + shape + "}"
        for shape in (
            f"({'1, ' * 65})",
            f"({10**30}, 0)",
            f"({'9' * 4000}, {'9' * 4000})",
            "(True, 1, 2, 2)",
            "(-1, -4)",
        )
    ),
    "(" * 3000,
]
"""Headers that numpy's parser fails on in its own ways, or that promise what no body holds."""


def headed(header: str) -> bytes:
    """An npy document of version 1.0 with that header and 16 bytes of data."""
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + bytes(16)


NPY_CASES = [
    (b"", 400, "malformed"),
    (b"\x93NUMPY", 400, "malformed"),
    (b"\x93NUMPY\x01\x00\xff\xff" + b"(" * 65_535, 400, "malformed"),
    (as_npy(np.zeros((2, 1, 2, 2)))[:-1], 400, "malformed"),
    (as_npy(np.zeros((2, 1, 2, 2))) + b"x", 400, "malformed"),
    (as_npy(np.zeros((0, 1, 2, 2))), 422, "unfit"),
    (as_npy(np.zeros((2, 3, 2))), 422, "unfit"),
    (as_npy(np.array(1.0)), 422, "unfit"),
    (as_npy(np.zeros((2, 1, 2, 2), dtype=complex)), 422, "unfit"),
    (as_npy(np.zeros((2, 1, 2, 2), dtype="U3")), 422, "unfit"),
    (as_npy(np.full((2, 1, 2, 2), np.nan)), 422, "unfit"),
    (as_npy(np.full((2, 1, 2, 2), 1e300)), 422, "unfit"),
    (as_npy(np.full((2, 1, 2, 2), 0.5)), 422, "unfit"),
    (as_npy(np.zeros((16_385, 1, 2, 2), dtype=np.uint8)), 422, "limit_exceeded"),
    *((headed(text), 400, "malformed") for text in HEADERS),
    (headed("{'descr': [('secret', '<f4')], 'fortran_order': False, 'shape': (1, 1, 2, 2)}"), 422, "unfit"),
]


@pytest.mark.parametrize(("body", "status", "code"), NPY_CASES)
def test_bad_npy_is_refused(client: httpx.Client, body: bytes, status: int, code: str) -> None:
    response = client.post(f"{TOY}/encode", content=body, headers={"content-type": "application/x-npy"})
    assert (response.status_code, response.json()["code"]) == (status, code), response.text


def test_a_pickled_npy_is_refused_unread(client: httpx.Client) -> None:
    file = io.BytesIO()
    np.save(file, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    response = client.post(
        f"{TOY}/encode", content=file.getvalue(), headers={"content-type": "application/x-npy"}
    )
    assert response.status_code == 422


PICTURE_CASES = [
    (b"not a picture", 400, "malformed"),
    (picture(28, 28)[:45], 400, "malformed"),
    (picture(28, 28, mode="I;16"), 422, "unfit"),
    (picture(28, 28, mode="RGBA"), 422, "unfit"),
    (picture(28, 28, "GIF"), 400, "malformed"),
    (picture(29, 28), 422, "unfit"),
    (picture(3000, 3000), 422, "unfit"),
    (png_bomb(), 400, "malformed"),
]


@pytest.mark.parametrize(("body", "status", "code"), PICTURE_CASES)
def test_bad_pictures_are_refused(client: httpx.Client, body: bytes, status: int, code: str) -> None:
    response = client.post(
        "/v1/models/fashion-vae/encode", content=body, headers={"content-type": "image/png"}
    )
    assert (response.status_code, response.json()["code"]) == (status, code), response.text


def test_rows_outside_the_support_are_each_named(client: httpx.Client) -> None:
    inputs = np.zeros((5, 1, 28, 28))
    inputs[1, 0, 3, 3], inputs[4] = 1.5, 255
    response = client.post("/v1/models/fashion-vae/score", json={"inputs": inputs.tolist()})
    assert response.status_code == 422
    assert [flaw["row"] for flaw in response.json()["errors"]] == [1, 4]


@pytest.mark.parametrize(
    ("method", "path", "headers", "status", "code"),
    [
        ("GET", "/nothing", {}, 404, "unknown_route"),
        ("GET", "/v1/models/absent", {}, 404, "unknown_model"),
        ("POST", "/v1/models/absent/sample", {}, 404, "unknown_model"),
        ("POST", "/v1/models/..%2f..%2fetc/sample", {}, 404, "unknown_route"),
        ("POST", "/v1/models/%00/sample", {}, 404, "unknown_model"),
        ("POST", f"/v1/models/{'x' * 10_000}/sample", {}, 404, "unknown_model"),
        ("POST", f"{TOY}/versions/0/sample", {}, 404, "unknown_version"),
        ("POST", f"{TOY}/versions/-1/sample", {}, 404, "unknown_version"),
        ("GET", f"{TOY}/versions/{'9' * 30}", {}, 404, "unknown_version"),
        ("POST", f"{TOY}/dance", {}, 404, "unknown_route"),
        ("POST", f"{TOY}/discriminate", {}, 404, "operation_not_offered"),
        ("DELETE", f"{TOY}/sample", {}, 405, "method_not_allowed"),
        ("GET", f"{TOY}/score", {}, 405, "method_not_allowed"),
        ("POST", "/healthz", {}, 405, "method_not_allowed"),
        ("POST", f"{TOY}/sample", {"accept": "image/webp"}, 406, "not_acceptable"),
        ("POST", f"{TOY}/encode", {"accept": "image/png"}, 406, "not_acceptable"),
        ("POST", f"{TOY}/sample", {"content-type": "text/plain"}, 415, "unsupported_media_type"),
        (
            "POST",
            f"{TOY}/sample",
            {"content-type": "application/json; charset=utf-16"},
            415,
            "unsupported_media_type",
        ),
        ("POST", f"{TOY}/sample", {"content-encoding": "br"}, 415, "unsupported_media_type"),
        ("POST", f"{TOY}/decode", {"content-type": "image/png"}, 415, "unsupported_media_type"),
        ("POST", f"{TOY}/sample", {"x-request-timeout-seconds": "soon"}, 422, "unfit"),
        ("POST", f"{TOY}/sample?count=2", {}, 422, "unfit"),
        ("GET", f"{TOY}/sample?count=two", {}, 422, "unfit"),
        ("GET", f"{TOY}/sample?count=1_0", {}, 422, "unfit"),
        ("GET", f"{TOY}/sample?temperature=1_0", {}, 422, "unfit"),
        ("GET", f"{TOY}/sample?count=2&offset={2**53 - 1}", {}, 422, "unfit"),
        (
            "GET",
            f"{TOY}/sample?count=5000&offset={2**53 - 4999}",
            {"accept": "application/x-npy"},
            422,
            "unfit",
        ),
        ("GET", f"{TOY}/sample?colour=red", {}, 422, "unfit"),
        ("GET", f"{TOY}/sample?count", {}, 422, "unfit"),
    ],
)
def test_requests_that_miss_have_their_status_and_code(
    client: httpx.Client, method: str, path: str, headers: dict[str, str], status: int, code: str
) -> None:
    response = client.request(method, path, headers=headers)
    assert (response.status_code, response.json()["code"]) == (status, code), response.text
    if status == 405:
        assert response.headers["allow"]


def test_the_service_echoes_no_input(client: httpx.Client) -> None:
    secret = "correct-horse-battery-staple"
    for path, body in (
        (f"{TOY}/sample", {secret: 1}),
        (f"{TOY}/sample", {"method": secret}),
        (f"{TOY}/decode", {"latents": [[secret, 1]]}),
        (f"/v1/models/{secret}/sample", {}),
        (f"{TOY}/versions/{secret}/sample", {}),
    ):
        response = client.post(path, json=body)
        assert 400 <= response.status_code < 500
        assert secret not in response.text


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (f"{TOY}/interpolate", b'{"from": {"input": [' + b'"",' * 15_000 + b'""]}, "to": {"seed": 1}}'),
        (f"{TOY}/decode", b'{"latents": [' + b"0," * 60_000 + b"0]}"),
        (f"{TOY}/decode", b'{"latents": [' + b"[]," * 40_000 + b"[]]}"),
        (f"{TOY}/sample", b"{" + b",".join(b'"k%d":0' % number for number in range(5_000)) + b"}"),
    ],
)
def test_a_body_of_many_flaws_is_refused_with_few_words(client: httpx.Client, path: str, body: bytes) -> None:
    response = client.post(path, content=body)
    assert response.status_code in (413, 422)
    assert len(response.content) < 8_000


@pytest.mark.parametrize(
    ("operation", "given", "pointer"),
    [
        ("score", {"statistic": "guess"}, "/statistic"),
        ("score", {"label": [1]}, "/label"),
        ("score", {"labels": ["a", 1.5]}, "/labels/1"),
        ("encode", {"label": -1}, "/label"),
        ("sample", {"label": ""}, "/label"),
    ],
)
def test_a_value_that_none_of_several_types_takes_is_one_flaw_in_its_own_place(
    client: httpx.Client, operation: str, given: dict[str, Any], pointer: str
) -> None:
    rows = {} if operation == "sample" else {"inputs": [[[[0] * 8] * 8]] * 2}
    answer = client.post(f"/v1/models/digits-vae/{operation}", json=given | rows)
    assert answer.status_code == 422
    assert [flaw["pointer"] for flaw in answer.json()["errors"]] == [pointer]
    assert "more)" not in answer.json()["detail"]


def test_unknown_keys_are_not_repeated_and_the_known_ones_are_named(client: httpx.Client) -> None:
    response = client.post(f"{TOY}/interpolate", json={"start": {"seed": 1}, "to": {"seed": 2}})
    assert "from, to, steps, path" in response.text


def test_a_415_names_what_came(client: httpx.Client) -> None:
    as_csv = client.post(f"{TOY}/score", content=b"a", headers={"content-type": "text/csv; charset=utf-8"})
    assert as_csv.json()["detail"].endswith("; text/csv came")
    packed = client.post(f"{TOY}/sample", content=b"{}", headers={"content-encoding": "zstd"})
    assert packed.json()["detail"].endswith("; zstd came")


def test_data_that_curl_sends_as_a_form_are_told_how_to_be_sent(client: httpx.Client) -> None:
    headers = {"content-type": "application/x-www-form-urlencoded"}
    answer = client.post(f"{TOY}/sample", content=b'{"count": 1}', headers=headers)
    assert answer.status_code == 415
    assert answer.json()["detail"].endswith(
        "urlencoded came (as curl says of any data; use --json, or -H 'Content-Type: ...')"
    )


def test_a_method_that_a_path_does_not_take_is_told_of_those_it_does(client: httpx.Client) -> None:
    assert client.delete(f"{TOY}/sample").headers["allow"] == "GET, POST, HEAD"
    assert client.delete("/v1/models").headers["allow"] == "GET, HEAD"
    assert client.get(f"{TOY}/score").headers["allow"] == "POST"


def test_a_photograph_for_a_version_of_one_size_is_refused_with_that_size(client: httpx.Client) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (400, 400), np.uint8)
    body, headers = as_picture(Image.fromarray(noise)), {"content-type": "image/png"}
    answer = client.post("/v1/models/digits-vae/score", content=body, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")
    assert "8 x 8 pixels" in answer.json()["detail"]
