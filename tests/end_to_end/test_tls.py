"""TLS by the service itself: the same answers and refusals as without, and gRPC too."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import grpc
import httpx
import pytest

from pushforward import Client
from service.api.tls import tls_context
from service.errors import CannotListen, Unreachable
from tests.end_to_end.connections import MOST_FILES, WITH_FEW_FILES, everything
from tests.serving import RunningService
from tests.toy import publish_toy

if shutil.which("openssl") is None:
    pytest.skip("a certificate is made by openssl", allow_module_level=True)

SAMPLE = "/v1/models/toy-vae/sample"
BEGUN_HANDSHAKE = bytes.fromhex("1603010200010001fc0303")
CERTIFICATE = (
    "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -noenc -days 2 -subj /CN=localhost "
    "-addext subjectAltName=IP:127.0.0.1 -keyout key.pem -out certificate.pem"
)


class Secured(NamedTuple):
    """A service with TLS, clients of it and of the same without, and the certificate."""

    service: RunningService
    client: httpx.Client
    plain: httpx.Client
    certificate: Path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("tls")
    subprocess.run(CERTIFICATE.split(), cwd=made, check=True, capture_output=True)
    publish_toy(made / "models")
    return made


@contextlib.contextmanager
def serving(
    folder: Path, *options: str, program: tuple[str, ...] = ("-m", "service")
) -> Iterator[RunningService]:
    """A service with the certificate and the models of a folder, stopped on the way out."""
    files = "--tls-certificate", str(folder / "certificate.pem"), "--tls-key", str(folder / "key.pem")
    running = RunningService(folder / "models", *files, *options, program=program)
    try:
        yield running.wait_until_ready()
    finally:
        running.stop()


@pytest.fixture(scope="module")
def secured(folder: Path, service: RunningService) -> Iterator[Secured]:
    certificate = folder / "certificate.pem"
    context = ssl.create_default_context(cafile=certificate)
    with (
        serving(folder, "--grpc-port", "0") as running,
        httpx.Client(base_url=running.url, verify=context, timeout=60) as client,
    ):
        yield Secured(running, client, service.client, certificate)


def connect(secured: Secured) -> socket.socket:
    context = ssl.create_default_context(cafile=secured.certificate)
    return context.wrap_socket(secured.service.connect(), server_hostname="127.0.0.1")


@pytest.mark.parametrize("accept", ["application/json", "application/x-npy"])
def test_an_answer_over_tls_has_the_bytes_of_one_without(secured: Secured, accept: str) -> None:
    for count in (1, 4_000):
        request = {"seed": 7, "count": count}
        answers = [
            client.post(SAMPLE, json=request, headers={"accept": accept})
            for client in (secured.client, secured.plain)
        ]
        assert [answer.status_code for answer in answers] == [200, 200]
        assert answers[0].content == answers[1].content


def test_a_body_in_chunks_an_offer_and_pipelined_requests_are_read_as_without(secured: Secured) -> None:
    head = f"POST {SAMPLE} HTTP/1.1\r\nhost: x\r\n".encode()
    chunked = head + b"transfer-encoding: chunked\r\n\r\nb\r\n" + b'{"seed": 7}' + b"\r\n0\r\n\r\n"
    offer = head + b"upgrade: h2c\r\nconnection: upgrade\r\ncontent-length: 11\r\n\r\n"
    broken = b"GET /healthz HTTP/1.1\r\n\r\n"
    with connect(secured) as connection:
        connection.sendall(chunked + offer)
        connection.sendall(b'{"seed": 7}' + broken)
        came = everything(connection)
    expected = secured.client.post(SAMPLE, json={"seed": 7}).content
    assert came.count(expected) == 2
    assert came.count(b"HTTP/1.1 400 ") == 1
    assert came.count(b"HTTP/1.1 ") == 3


def test_who_sends_all_before_reading_is_answered_though_it_was_not_read(secured: Secured) -> None:
    with connect(secured) as connection:
        connection.sendall(f"POST {SAMPLE} HTTP/1.1\r\nhost: x\r\ncontent-length: 50000000\r\n\r\n".encode())
        for _ in range(16):
            connection.sendall(b"a" * 2**20)
        came = everything(connection)
    assert came.startswith(b"HTTP/1.1 413 ")
    assert came.count(b"HTTP/1.1 ") == 1


def test_without_tls_nothing_is_answered_and_the_service_goes_on(secured: Secured) -> None:
    with secured.service.connect() as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
        assert b"HTTP/1.1" not in everything(connection)
    assert secured.client.get("/healthz").status_code == 200


@pytest.mark.living
def test_connections_whose_handshake_does_not_end_make_room_for_others_and_are_closed(folder: Path) -> None:
    context = ssl.create_default_context(cafile=folder / "certificate.pem")
    with (
        serving(folder, "--idle-seconds", "4", program=("-c", WITH_FEW_FILES)) as running,
        contextlib.ExitStack() as stack,
    ):
        silent = []
        for number in range(2 * MOST_FILES):
            silent.append(stack.enter_context(running.connect()))
            if number % 2:
                silent[-1].sendall(BEGUN_HANDSHAKE)
        with httpx.Client(base_url=running.url, verify=context, timeout=60) as client:
            assert client.get("/readyz").status_code == 200
            assert client.post(SAMPLE).status_code == 200
            begun = time.monotonic()
            for connection in silent:
                with contextlib.suppress(ConnectionError):
                    assert connection.recv(1) == b""
            assert time.monotonic() - begun < 30
            assert client.post(SAMPLE).status_code == 200
        assert "Traceback" not in "".join(running.lines)


@pytest.mark.living
def test_idle_connections_make_room_for_new_ones_though_their_clients_do_not_say_goodbye(
    folder: Path,
) -> None:
    context = ssl.create_default_context(cafile=folder / "certificate.pem")
    with serving(folder, program=("-c", WITH_FEW_FILES)) as running, contextlib.ExitStack() as stack:
        for _ in range(3 * MOST_FILES):
            plain = stack.enter_context(running.connect())
            kept = stack.enter_context(context.wrap_socket(plain, server_hostname="127.0.0.1"))
            kept.sendall(f"GET {SAMPLE} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
            assert kept.recv(2**16).startswith(b"HTTP/1.1 200 OK")


def test_a_client_that_keeps_its_connection_and_does_not_say_goodbye_does_not_hold_the_end(
    folder: Path,
) -> None:
    context = ssl.create_default_context(cafile=folder / "certificate.pem")
    with serving(folder, "--drain-seconds", "5") as running, contextlib.ExitStack() as stack:
        kept = []
        for last in (b"connection: close\r\n", b""):
            plain = stack.enter_context(running.connect())
            secure = context.wrap_socket(plain, server_hostname="127.0.0.1", suppress_ragged_eofs=False)
            kept.append(stack.enter_context(secure))
            secure.sendall(b"GET /healthz HTTP/1.1\r\nhost: x\r\n" + last + b"\r\n")
            assert secure.recv(1)
        assert running.stop() == 0
        for secure in kept:
            while secure.recv(2**16):  # it would raise an error if the end were cut
                pass
        assert "exceeded" not in "".join(running.lines)


def test_grpc_speaks_tls_too_and_nothing_else(secured: Secured) -> None:
    address = secured.service.grpc_address
    credentials = grpc.ssl_channel_credentials(secured.certificate.read_bytes())
    live = "/inference.GRPCInferenceService/ServerLive"
    with grpc.secure_channel(address, credentials) as channel:
        assert channel.unary_unary(live)(b"", timeout=30) == b"\x08\x01"
    with grpc.insecure_channel(address) as channel, pytest.raises(grpc.RpcError) as raised:
        channel.unary_unary(live)(b"", timeout=30)
    assert raised.value.code() is grpc.StatusCode.UNAVAILABLE


def test_the_client_trusts_the_certificate_that_the_environment_names_and_says_what_is_missing(
    secured: Secured, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = str(secured.client.base_url)
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    with Client(url) as client, pytest.raises(Unreachable, match="SSL_CERT_FILE names a file"):
        client.models()
    monkeypatch.setenv("SSL_CERT_FILE", str(secured.certificate))
    with Client(url) as client:
        assert client.models()
    plain = url.replace("https", "http")
    with Client(plain) as client, pytest.raises(Unreachable, match="speaks TLS, write https"):
        client.models()


def made_certificate(folder: Path) -> tuple[bytes, bytes]:
    """A certificate and its key, made anew."""
    subprocess.run(CERTIFICATE.split(), cwd=folder, check=True, capture_output=True)
    return (folder / "certificate.pem").read_bytes(), (folder / "key.pem").read_bytes()


@pytest.mark.living
def test_a_renewed_certificate_is_served_to_new_connections_and_a_broken_one_is_not(
    folder: Path, tmp_path: Path
) -> None:
    made, served = tmp_path / "made", tmp_path / "served"
    made.mkdir()
    served.mkdir()
    (served / "models").symlink_to(folder / "models")
    first, second = made_certificate(made), made_certificate(made)
    files = served / "certificate.pem", served / "key.pem"

    def write(*pair: bytes) -> None:
        for file, content in zip(files, pair, strict=True):
            file.write_bytes(content)

    write(*first)
    with serving(served, "--grpc-port", "0") as running:

        def client(certificate: bytes) -> httpx.Client:
            context = ssl.create_default_context(cadata=certificate.decode())
            kept_for_ever = httpx.Limits(keepalive_expiry=None)
            return httpx.Client(base_url=running.url, verify=context, timeout=60, limits=kept_for_ever)

        def is_served(certificate: bytes) -> bool:
            with client(certificate) as new, contextlib.suppress(httpx.ConnectError):
                return new.get("/readyz").status_code == 200
            return False

        def is_served_by_grpc(certificate: bytes) -> bool:
            credentials = grpc.ssl_channel_credentials(certificate)
            target = running.grpc_address
            with grpc.secure_channel(target, credentials) as channel, contextlib.suppress(grpc.RpcError):
                live = channel.unary_unary("/inference.GRPCInferenceService/ServerLive")
                return bool(live(b"", timeout=30) == b"\x08\x01")
            return False

        with client(first[0]) as kept:
            assert "pushforward_certificate_refused 0.0" in kept.get("/metrics").text
            write(second[0], first[1])
            running.wait_for("the certificate read before stays")
            assert "pushforward_certificate_refused 1.0" in kept.get("/metrics").text
            assert is_served(first[0])
            assert is_served_by_grpc(first[0])
            write(*second)
            running.wait_for("the certificate was read anew")
            assert "pushforward_certificate_refused 0.0" in kept.get("/metrics").text
            assert is_served(second[0])
            assert not is_served(first[0])
            assert is_served_by_grpc(second[0])
            assert not is_served_by_grpc(first[0])
            assert kept.post(SAMPLE, json={"seed": 7}).status_code == 200
            assert sum("Traceback" in line for line in running.lines) == 0


def test_a_pipe_is_no_file_for_tls_because_it_would_not_end(folder: Path, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.pem"
    os.mkfifo(pipe)
    for files in ((pipe, None), (folder / "certificate.pem", pipe)):
        with pytest.raises(CannotListen, match=f"{pipe}: not a plain file"):
            tls_context(*files)


@pytest.mark.parametrize(
    ("certificate", "key"),
    [
        ("none.pem", "key.pem"),
        ("certificate.pem", "certificate.pem"),
        ("key.pem", None),
        ("", "encrypted.pem"),
    ],
)
def test_files_that_cannot_be_used_are_named(folder: Path, certificate: str, key: str | None) -> None:
    encrypt = "openssl ec -in key.pem -aes128 -passout pass:secret -out encrypted.pem"
    subprocess.run(encrypt.split(), cwd=folder, check=True, capture_output=True)
    files = folder / (certificate or "certificate.pem"), None if key is None else folder / key
    with pytest.raises(CannotListen, match=f"cannot serve TLS with {files[0]}.*by --tls-key"):
        tls_context(*files)
    key_and_certificate = folder / "both.pem"
    key_and_certificate.write_text(
        (folder / "key.pem").read_text() + (folder / "certificate.pem").read_text()
    )
    assert (
        tls_context(key_and_certificate, None).cert_store_stats()["x509"] == 0
    )  # no client is asked for one


@pytest.mark.living
@pytest.mark.parametrize("processes", ["1", "2"])
def test_tls_without_its_files_is_one_clear_line(folder: Path, processes: str) -> None:
    command = [sys.executable, "-m", "service", "--models", str(folder / "models"), "--port", "0"]
    command += ["--processes", processes, "--tls-certificate", str(folder / "none.pem")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    last = done.stderr.splitlines()[-1]
    assert last.startswith("pushforward-serve: cannot serve TLS with ")
    assert "No such file or directory" in last
    assert "Traceback" not in done.stderr
