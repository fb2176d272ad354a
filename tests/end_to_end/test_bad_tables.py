"""Bad rows of a table: each is refused and named, in JSON and in npy."""

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.serving import as_npy, as_picture

TABLE = "/v1/models/toy-table"

BAD = [
    ("encode", b'{"inputs": [[1, 1, 0, 0], [1, 1, 1, 0]]}'),
    ("encode", b'{"inputs": [[1, 0, 0, 0]]}'),
    ("encode", b'{"inputs": [[1, 0.5, 0.5, 0]]}'),
    ("encode", b'{"inputs": [[1, 0, 0, 2]]}'),
    ("encode", b'{"inputs": [[1, 0, 0, 1e30]]}'),
    ("encode", b'{"inputs": [[1e999, 1, 0, 0]]}'),
    ("encode", b'{"inputs": [[NaN, 1, 0, 0]]}'),
    ("encode", b'{"inputs": [[-Infinity, 1, 0, 0]]}'),
    ("encode", b'{"inputs": [[1e39, 1, 0, 0]]}'),
    ("encode", b'{"inputs": [["tall", 1, 0, 0]]}'),
    ("encode", b'{"inputs": [[null, 1, 0, 0]]}'),
    ("encode", b'{"inputs": [[1, true, 0, 0]]}'),
    ("encode", b'{"inputs": [1, 1, 0, 0]}'),
    ("encode", b'{"inputs": [[[1, 1, 0, 0]]]}'),
    ("encode", b'{"inputs": [[1, 1, 0]]}'),
    ("reconstruct", b'{"inputs": [[1, 0, 0, 0]]}'),
    ("score", b'{"inputs": [[1, 0, 0, 0]]}'),
    ("interpolate", b'{"from": {"input": [1, 0, 0, 0]}, "to": {"seed": 2}}'),
]


@pytest.mark.parametrize(("operation", "body"), BAD)
def test_bad_rows_of_a_table_are_refused(client: httpx.Client, operation: str, body: bytes) -> None:
    response = client.post(f"{TABLE}/{operation}", content=body)
    assert (response.status_code, response.json()["code"]) == (422, "unfit"), response.text


def test_rows_that_are_not_one_hot_are_each_named_with_their_column(client: httpx.Client) -> None:
    inputs = [[170, 1, 0, 0], [170, 1, 0, 1], [170, 0, 0, 1], [170, 0, 0, 0]]
    for response in (
        client.post(f"{TABLE}/score", json={"inputs": inputs}),
        client.post(
            f"{TABLE}/score", content=as_npy(np.array(inputs)), headers={"content-type": "application/x-npy"}
        ),
    ):
        problem = response.json()
        assert response.status_code == 422
        assert "`colour`" in problem["detail"]
        assert [flaw["row"] for flaw in problem["errors"]] == [1, 3]
        assert all("features 1 to 3" in flaw["message"] for flaw in problem["errors"])


def test_a_picture_of_a_table_is_neither_taken_nor_made(client: httpx.Client) -> None:
    picture = as_picture(Image.new("L", (4, 1)))
    taken = client.post(f"{TABLE}/encode", content=picture, headers={"content-type": "image/png"})
    assert (taken.status_code, taken.json()["code"]) == (422, "unfit")
    assert "takes no pictures" in taken.json()["detail"]
    for operation, body in (("sample", {}), ("decode", {"latents": [[0]]})):
        made = client.post(f"{TABLE}/{operation}", json=body, headers={"accept": "image/png"})
        assert (made.status_code, made.json()["code"]) == (406, "not_acceptable")
        assert "of shape [4], are no pictures" in made.json()["detail"]
        both = {"accept": "image/png, application/x-npy;q=0.5"}
        second = client.post(f"{TABLE}/{operation}", json=body, headers=both)
        assert (second.status_code, second.headers["content-type"]) == (200, "application/x-npy")
