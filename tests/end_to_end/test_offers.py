"""A body is read as it is sent, though its request offers another protocol (RFC 9110, section 7.8)."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.connections import HEALTH, answer, everything
from tests.serving import RunningService

OFFERS = {
    "h2c": b"connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAEAAEAA\r\n",
    "websocket": b"connection: upgrade\r\nupgrade: websocket\r\n",
    "anything": b"upgrade: anything\r\nconnection: keep-alive, Upgrade\r\nte: trailers\r\n",
}
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
ITEM = [[[1, 0], [0, 1]]]
POSTS: dict[str, dict[str, Any]] = {
    "/v1/models/toy-vae/sample": {"count": 2, "seed": 7, "offset": 12},
    "/v1/models/toy-vae/interpolate": {
        "from": {"latent": [0, 0]}, "to": {"latent": [1, 1]}, "steps": 3,
    },
    "/v1/models/toy-vae/encode": {"inputs": [ITEM]},
    "/v1/models/toy-vae/decode": {"latents": [[0.5, 1]]},
    "/v1/models/toy-vae/reconstruct": {"inputs": [ITEM]},
    "/v1/models/toy-vae/score": {"inputs": [ITEM]},
    "/v1/models/ring-gan/discriminate": {"inputs": [[1, 0]]},
    "/v2/models/toy-vae.decode/infer": {
        "inputs": [{"name": "latents", "shape": [1, 2], "datatype": "FP32", "data": [0.5, 1]}],
    },
    "/v2/repository/index": {"ready": True},
    "/v2/repository/models/toy-vae/load": {"parameters": {"config": "x"}},
    "/v2/repository/models/toy-vae/unload": {},
}  # fmt: skip


def post(path: str, body: bytes, headers: bytes, *, chunked: bool) -> tuple[bytes, bytes]:
    """Head and body of a request."""
    size = b"transfer-encoding: chunked" if chunked else b"content-length: %d" % len(body)
    if chunked:
        body = b"%x\r\n%b\r\n0\r\nx: y\r\n\r\n" % (len(body), body)
    return b"POST %b HTTP/1.1\r\nhost: x\r\n%b%b\r\n\r\n" % (path.encode(), headers, size), body


def answered(service: RunningService, head: bytes, body: bytes, *, waits: bool) -> tuple[bytes, bytes]:
    """Status and body of a request's answer; its body is sent at once, or once the service asks for it."""
    with service.connect() as connection:
        if waits:
            connection.sendall(head.removesuffix(b"\r\n") + b"expect: 100-continue\r\n\r\n")
            assert connection.recv(len(CONTINUE), socket.MSG_WAITALL) == CONTINUE
            connection.sendall(body)
        else:
            connection.sendall(head + body)
        headers, content = answer(connection)
        connection.sendall(HEALTH)
        assert b" 200 " in answer(connection)[0], "what follows the body was not read as a request"
        return headers.split(b"\r\n")[0], content


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("path", POSTS)
def test_an_offer_changes_nothing_of_an_answer(service: RunningService, path: str, *, chunked: bool) -> None:
    body = json.dumps(POSTS[path]).encode()
    answers = {
        answered(service, *post(path, body, offer, chunked=chunked), waits=waits)
        for offer in (b"", *OFFERS.values())
        for waits in (False, True)
    }
    assert len(answers) == 1


def test_a_body_that_looks_like_a_request_is_none(service: RunningService) -> None:
    inner = b"GET /v1/models/toy-vae/sample?count=1&seed=99 HTTP/1.1\r\nhost: x\r\n\r\n"
    head, body = post("/v1/models/toy-vae/sample", inner, OFFERS["h2c"], chunked=False)
    status, _ = answered(service, head, body, waits=True)
    assert b" 400 " in status


def test_a_tunnel_is_refused(service: RunningService) -> None:
    with service.connect() as connection:
        connection.sendall(b"CONNECT x:80 HTTP/1.1\r\nhost: x:80\r\n\r\n" + HEALTH)
        came = everything(connection)
    assert came.startswith(b"HTTP/1.1 400 ")
    assert came.count(b"HTTP/1.1 ") == 1


@pytest.mark.skipif(
    shutil.which("java") is None, reason="Java is not installed, whose client makes the offer"
)
def test_what_javas_client_posts_is_read(service: RunningService) -> None:
    program = Path(__file__).with_name("OfferingClient.java")
    url, body = f"{service.url}/v1/models/toy-vae/sample", json.dumps({"count": 2, "seed": 7})
    run = subprocess.run(["java", program, url, body], capture_output=True, text=True, check=True, timeout=60)
    assert run.stdout.splitlines() == [service.client.post(url, content=body).text] * 2


def test_requests_one_upon_the_other_are_all_answered(service: RunningService) -> None:
    """They are far more than may wait at a time, and the last of them have a body and an offer."""
    offered = b"".join(post("/v1/models/toy-vae/sample", b'{"seed": 7}', OFFERS["h2c"], chunked=False))
    sent = HEALTH * 3_000 + offered * 300
    with service.connect() as connection, ThreadPoolExecutor(1) as sender:
        sending = sender.submit(connection.sendall, sent)
        came = b""
        while came.count(b"HTTP/1.1 200 OK") < 3_300:
            came += connection.recv(2**20)
        sending.result()
    assert came.count(b"HTTP/1.1 ") == 3_300
