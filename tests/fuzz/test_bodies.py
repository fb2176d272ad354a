"""Bodies that hypothesis makes, of any bytes or from valid ones by cuts, for every parser of the service."""

from __future__ import annotations

import gzip
import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from tritonclient.grpc import service_pb2

from tests import toy
from tests.serving import RunningService, as_npy, as_picture, running_service
from tests.toy_table import publish_table

pytestmark = [pytest.mark.fuzz, pytest.mark.timeout(300)]
EXAMPLES = 500
"""The bodies for each parser; about ten seconds on a busy machine."""
NPY = as_npy(toy.items(3))
PICTURE = as_picture(Image.new("L", (8, 8)))
ROWS = json.dumps({"inputs": toy.items(3).tolist(), "draws": 2}).encode()
TENSORS = json.dumps(
    {"inputs": [{"name": "inputs", "shape": [3, 1, 2, 2], "datatype": "FP32", "data": toy.items(3).tolist()}]}
).encode()


def zipped() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.png", PICTURE)
        archive.writestr("b.png", PICTURE)
    return file.getvalue()


def message() -> bytes:
    request = service_pb2.ModelInferRequest(model_name="toy-vae.decode", id="mine")
    request.inputs.add(name="latents", datatype="FP32", shape=[1, 2])
    request.raw_input_contents.append(np.zeros(2, np.float32).tobytes())
    request.parameters["draws"].int64_param = 3
    return bytes(request.SerializeToString())


def near(valid: bytes) -> st.SearchStrategy[bytes]:
    """Any bytes, and the valid ones with a part cut out and others put in its place."""

    def spliced(start: int, length: int, other: bytes) -> bytes:
        return valid[:start] + other + valid[start + length :]

    place = st.integers(0, len(valid))
    return st.binary(max_size=300) | st.builds(spliced, place, st.integers(0, 40), st.binary(max_size=40))


KINDS = {
    "JSON": ("/v1/models/toy-vae/score", {"content-type": "application/json"}, ROWS),
    "npy": ("/v1/models/toy-vae/score", {"content-type": "application/x-npy"}, NPY),
    "PNG": ("/v1/models/digits-vae/encode", {"content-type": "image/png"}, PICTURE),
    "form": (
        "/v1/models/digits-vae/encode",
        {"content-type": "multipart/form-data; boundary=x"},
        b'--x\r\ncontent-disposition: form-data; name="file"; filename="a.png"\r\n\r\n'
        + PICTURE
        + b"\r\n--x--\r\n",
    ),
    "zip": ("/v1/models/digits-vae/encode", {"content-type": "application/zip"}, zipped()),
    "CSV": (
        "/v1/models/toy-table/encode",
        {"content-type": "text/csv"},
        b"height,colour\n170,red\n150,blue\n",
    ),
    "gzip": ("/v1/models/toy-vae/score", {"content-encoding": "gzip"}, gzip.compress(ROWS, mtime=0)),
    "tensors in JSON": ("/v2/models/toy-vae.score/infer", {}, TENSORS),
    "tensors in bytes": (
        "/v2/models/toy-vae.score/infer",
        {"inference-header-content-length": "0"},
        toy.items(3).tobytes(),
    ),
}


@pytest.fixture(scope="module")
def toys(tmp_path_factory: pytest.TempPathFactory, models: Path) -> Iterator[RunningService]:
    folder = tmp_path_factory.mktemp("toys")
    toy.publish_toy(folder)
    publish_table(folder)
    (folder / "digits-vae").symlink_to(models / "digits-vae")
    with running_service(folder, "--grpc-port", "0") as service:
        yield service


@pytest.mark.parametrize("kind", KINDS)
def test_any_body_is_answered_or_refused_and_never_a_failure(toys: RunningService, kind: str) -> None:
    path, headers, valid = KINDS[kind]
    before = len(toys.lines)

    @settings(max_examples=EXAMPLES, suppress_health_check=list(HealthCheck))
    @given(near(valid))
    def ask(body: bytes) -> None:
        response: httpx.Response = toys.client.post(path, content=body, headers=headers)
        assert response.status_code in (200, 400, 413, 422), response.text

    ask()
    assert not any("Traceback" in line for line in toys.lines[before:])


def outcome(infer: Any, body: bytes) -> grpc.StatusCode:
    """The status of a call."""
    try:
        infer(body, timeout=30)
    except grpc.RpcError as error:
        return error.code()
    return grpc.StatusCode.OK


def test_any_message_of_grpc_is_answered_or_refused_and_never_a_failure(toys: RunningService) -> None:
    address = toys.grpc_address
    right = {grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND}
    with grpc.insecure_channel(address) as channel:
        infer = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")

        @settings(max_examples=EXAMPLES, suppress_health_check=list(HealthCheck))
        @given(near(message()))
        def ask(body: bytes) -> None:
            assert outcome(infer, body) in right

        ask()
    assert not any("Traceback" in line for line in toys.lines)
