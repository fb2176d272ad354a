"""NVIDIA's own client over gRPC on a real server."""

from __future__ import annotations

import gzip
import socket
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from threading import Event
from typing import Any
from urllib.parse import quote

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from tritonclient.grpc import service_pb2
from tritonclient.utils import InferenceServerException

from service.api.open_inference.codes import shortened
from tests import toy
from tests.end_to_end.connections import answer
from tests.ports import free_port
from tests.serving import RunningService, running_service
from tests.waiting import wait_until

SERVICE = "inference.GRPCInferenceService"
SAMPLE, SCORE, DECODE = "toy-vae.sample", "toy-vae.score", "toy-vae.decode"


@pytest.fixture(scope="module")
def client(service: RunningService) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(service.grpc_address) as client:
        yield client


def tensor(name: str, array: Any, kind: str = "FP32") -> triton.InferInput:
    array = np.asarray(array, np.float32 if kind == "FP32" else np.int64)
    return triton.InferInput(name, list(array.shape), kind).set_data_from_numpy(array)


def addresses(seeds: Any, indices: Any) -> list[triton.InferInput]:
    return [tensor("seed", seeds, "INT64"), tensor("index", indices, "INT64")]


def test_the_client_makes_its_tour(client: triton.InferenceServerClient, service: RunningService) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready(SAMPLE)
    assert client.is_model_ready(SAMPLE, "1")
    assert not client.is_model_ready("absent.sample")
    assert client.get_server_metadata().name == "pushforward"
    by_grpc = client.get_model_metadata(SCORE, as_json=True)
    by_rest = service.client.get(f"/v2/models/{SCORE}").json()
    for side in ("inputs", "outputs"):
        for tensor in by_grpc[side]:
            tensor["shape"] = [int(size) for size in tensor["shape"]]
    assert by_grpc == by_rest


def test_an_answer_bears_the_id_the_version_and_what_is_told(client: triton.InferenceServerClient) -> None:
    result = client.infer(
        SCORE, [tensor("inputs", toy.items(3))], request_id="mine", parameters={"draws": 1, "alpha": 0.2}
    )
    response = result.get_response()
    assert (response.id, response.model_name, response.model_version) == ("mine", SCORE, "1")
    told = response.parameters
    assert (told["draws"].int64_param, told["alpha"].double_param) == (1, 0.2)
    assert (told["statistic"].string_param, told["unit"].string_param) == ("elbo", "nats")
    assert result.as_numpy("p_value") is None
    wanted = [triton.InferRequestedOutput(name) for name in ("anomaly", "elbo")]
    both = client.infer(SCORE, [tensor("inputs", toy.items(3))], outputs=wanted)
    assert [output.name for output in both.get_response().outputs] == ["anomaly", "elbo"]
    assert both.as_numpy("anomaly").dtype == np.bool_


@pytest.mark.anyio
async def test_the_asynchronous_client_gets_the_same(
    service: RunningService, client: triton.InferenceServerClient
) -> None:
    async with triton_aio.InferenceServerClient(service.grpc_address) as asynchronous:
        result = await asynchronous.infer(SAMPLE, addresses([7, 8], [0, 3]), compression_algorithm="gzip")
    plain = client.infer(SAMPLE, addresses([7, 8], [0, 3]))
    np.testing.assert_array_equal(result.as_numpy("samples"), plain.as_numpy("samples"))


COMPRESSIONS = pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])


@COMPRESSIONS
def test_a_compressed_message_is_read_as_it_was(
    service: RunningService, compression: grpc.Compression
) -> None:
    items = np.ones((500, *toy.ITEM), np.float32)
    message = service_pb2.ModelInferRequest(model_name="toy-vae.encode", id="a" * 900)
    message.inputs.add(name="inputs", datatype="FP32", shape=items.shape)
    message.raw_input_contents.append(items.tobytes())
    plain = call(service, message)
    assert len(plain.raw_output_contents[0]) == 500 * 2 * 4
    assert call(service, message, compression) == plain
    with grpc.insecure_channel(service.grpc_address, compression=compression) as channel:
        ask = channel.unary_unary("/grpc.health.v1.Health/Check")
        with pytest.raises(grpc.RpcError) as raised:
            ask(b"\n\x7f" + b"a" * 127, timeout=30)
    assert raised.value.code() is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize(
    "damaged", [gzip.compress(b"\n\x01a", mtime=0)[:-4], b"\x1f\x8b", b"x\x9c", zlib.compress(b"a") * 2]
)
def test_a_compressed_message_that_is_not_whole_is_refused(service: RunningService, damaged: bytes) -> None:
    with grpc.insecure_channel(service.grpc_address) as channel:
        infer = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        with pytest.raises(grpc.RpcError) as raised:
            infer(damaged, timeout=30)
    assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def request(**changes: Any) -> Any:
    """A request to decode one latent, by the numbers' own field instead of bytes."""
    message = service_pb2.ModelInferRequest(model_name=DECODE)
    given = message.inputs.add(name="latents", datatype="FP32", shape=[1, 2])
    given.contents.fp32_contents.extend([0.5, 1])
    for path, value in changes.items():
        target = given if hasattr(given, path) else message
        field = getattr(target, path)
        if isinstance(value, list):
            del field[:]
            field.extend(value)
        else:
            setattr(target, path, value)
    return message


def call(
    service: RunningService, message: Any, compression: grpc.Compression = grpc.Compression.NoCompression
) -> Any:
    with grpc.insecure_channel(service.grpc_address, compression=compression) as channel:
        infer = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            request_serializer=service_pb2.ModelInferRequest.SerializeToString,
            response_deserializer=service_pb2.ModelInferResponse.FromString,
        )
        return infer(message, timeout=30)


def test_numbers_may_come_in_the_field_of_their_datatype(
    service: RunningService, client: triton.InferenceServerClient
) -> None:
    (raw,) = call(service, request()).raw_output_contents
    plain = client.infer(DECODE, [tensor("latents", [[0.5, 1]])])
    assert raw == plain.as_numpy("samples").tobytes()


def test_the_content_type_of_mlservers_clients_is_ignored_wherever_it_stands(service: RunningService) -> None:
    message = request()
    message.outputs.add(name="samples")
    for place in (message, message.inputs[0], message.outputs[0]):
        place.parameters["content_type"].string_param = "np"
    assert call(service, message).raw_output_contents == call(service, request()).raw_output_contents


@pytest.mark.parametrize(
    ("changes", "code", "says"),
    [
        ({"model_name": "absent.decode"}, "NOT_FOUND", "no model of that name"),
        ({"model_name": "toy-vae.discriminate"}, "NOT_FOUND", "no such operation"),
        ({"model_version": "9"}, "NOT_FOUND", "no such version"),
        ({"name": "latent"}, "INVALID_ARGUMENT", "takes latents"),
        ({"datatype": "FP64"}, "INVALID_ARGUMENT", "FP32"),
        ({"shape": [-1, 2]}, "INVALID_ARGUMENT", "at least one row"),
        ({"shape": [2**40, 2]}, "INVALID_ARGUMENT", "at most"),
        ({"shape": [2, 2]}, "INVALID_ARGUMENT", "8 bytes"),
        ({"raw_input_contents": [b"12345678"]}, "INVALID_ARGUMENT", "not both"),
        ({"raw_input_contents": [b"1", b"2"]}, "INVALID_ARGUMENT", "2 raw contents"),
    ],
)
def test_a_call_that_does_not_fit_has_a_code_and_says_why(
    service: RunningService, changes: dict[str, Any], code: str, says: str
) -> None:
    with pytest.raises(grpc.RpcError) as raised:
        call(service, request(**changes))
    assert raised.value.code() is grpc.StatusCode[code]
    assert says in raised.value.details()


def test_numbers_in_the_field_of_another_datatype_are_told_where_to_go(service: RunningService) -> None:
    message = request()
    message.inputs[0].contents.ClearField("fp32_contents")
    message.inputs[0].contents.fp64_contents.extend([0.5, 1])
    with pytest.raises(grpc.RpcError, match="send them in `fp32_contents` or in `raw_input_contents`"):
        call(service, message)


def test_a_call_is_given_up_at_its_timeout(client: triton.InferenceServerClient) -> None:
    """5 000 draws of 64 items take far longer than 5 milliseconds."""
    with pytest.raises(InferenceServerException, match="not ready in time"):
        client.infer(SCORE, [tensor("inputs", toy.items(64))], parameters={"draws": 5_000}, timeout=5_000)
    with pytest.raises(InferenceServerException, match=r"(?i)deadline"):
        client.infer(
            SCORE, [tensor("inputs", toy.items(64))], parameters={"draws": 5_000}, client_timeout=0.01
        )
    assert client.is_server_ready()


def test_grpc_is_off_unless_asked_for_and_says_where_it_cannot_be(tmp_path: Path) -> None:
    toy.publish_toy(tmp_path)
    with running_service(tmp_path) as service:
        assert not any("gRPC" in line for line in service.lines)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        command = [sys.executable, "-m", "service", "--models", str(tmp_path), "--port", "0"]
        command += ["--processes", "1", "--grpc-port", str(port)]
        result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert result.returncode == 2
    assert f"cannot listen on 127.0.0.1, port {port}" in result.stderr


def test_replicas_share_the_port(tmp_path: Path) -> None:
    toy.publish_toy(tmp_path)
    port = free_port()
    with running_service(tmp_path, "--grpc-port", str(port), processes=2) as service:
        assert len([line for line in service.lines if "serving gRPC" in line]) == 2
        with triton.InferenceServerClient(f"127.0.0.1:{port}") as client:
            assert client.infer(SAMPLE, addresses([7], [0])).as_numpy("samples").shape == (1, *toy.ITEM)


def test_calls_of_grpc_are_counted_by_their_path_with_the_codes_of_http(
    client: triton.InferenceServerClient, service: RunningService
) -> None:
    """The objective of answers without errors is kept or missed by them too."""

    def counted(code: int) -> float:
        name, route = "pushforward_http_requests_total", f"/{SERVICE}/ModelInfer"
        return service.metric(name, route=route, method="POST", code=str(code))

    answered, missing, late = counted(200), counted(404), counted(504)
    client.infer(SAMPLE, addresses([7], [0]))
    wait_until(lambda: counted(200) == answered + 1)
    with pytest.raises(InferenceServerException):
        client.infer("absent.sample", addresses([7], [0]))
    wait_until(lambda: counted(404) == missing + 1)
    many = [tensor("inputs", toy.items(64))]
    with pytest.raises(InferenceServerException):
        client.infer(SCORE, many, parameters={"draws": 5_000}, timeout=1_000)
    wait_until(lambda: counted(504) == late + 1)


def test_the_health_check_of_grpc_tells_of_the_service_and_of_each_model(service: RunningService) -> None:
    with grpc.insecure_channel(service.grpc_address) as channel:
        check = channel.unary_unary("/grpc.health.v1.Health/Check")
        for name in ("", "inference.GRPCInferenceService", SAMPLE):
            assert check(b"\n%c%b" % (len(name), name.encode()) if name else b"", timeout=30) == b"\x08\x01"
        with pytest.raises(grpc.RpcError) as refusal:
            check(b"\n\x06absent", timeout=30)
        assert refusal.value.code() is grpc.StatusCode.NOT_FOUND


def test_grpc_takes_no_calls_while_http_finishes_its_requests(tmp_path: Path) -> None:
    toy.publish_toy(tmp_path)
    with running_service(tmp_path, "--grpc-port", "0") as service, service.connect() as connection:
        target = service.grpc_address
        connection.sendall(
            b"POST /v1/models/toy-vae/sample HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{"
        )
        wait_until(lambda: service.metric("pushforward_inflight_requests") == 2)
        service.process.terminate()
        service.wait_for("Shutting down")
        host, port = target.split(":")

        def refused() -> bool:
            try:
                socket.create_connection((host, int(port)), timeout=5).close()
            except ConnectionRefusedError:
                return True
            return False

        wait_until(refused)
        connection.sendall(b"}")
        assert b" 200 " in answer(connection)[0]
        assert service.process.wait(timeout=60) == 0


REFLECTION = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"


def test_a_client_that_knows_no_messages_learns_them_by_reflection(service: RunningService) -> None:
    pytest.importorskip("grpc_reflection")
    from google.protobuf.descriptor_pool import DescriptorPool
    from google.protobuf.message_factory import GetMessageClass
    from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

    with grpc.insecure_channel(service.grpc_address) as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        described = [name for name in database.get_services() if "reflection" not in name]
        assert described == ["inference.GRPCInferenceService"]
        methods = DescriptorPool(database).FindServiceByName(described[0]).methods_by_name
        assert {"ServerLive", "ModelMetadata", "ModelInfer"} <= set(methods)
        metadata = methods["ModelMetadata"]
        ask = channel.unary_unary(
            f"/{described[0]}/ModelMetadata",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=GetMessageClass(metadata.output_type).FromString,
        )
        answer = ask(GetMessageClass(metadata.input_type)(name="toy-vae.decode"), timeout=30)
        assert [tensor.name for tensor in answer.inputs] == ["latents"]


def test_a_message_that_asks_for_nothing_known_is_refused_without_a_trace(service: RunningService) -> None:
    pytest.importorskip("grpc_reflection")
    before = len(service.lines)
    with grpc.insecure_channel(service.grpc_address) as channel:
        ask = channel.stream_stream(REFLECTION)
        for body in (b"\xff" * 100, b"\x2a\xff\xff\xff\xff\x0f", b"\x10\x00" * 2**20):
            with pytest.raises(grpc.RpcError) as raised:
                list(ask(iter([body]), timeout=30))
            assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        extension = b"\x2a\x09\x0a\x01x\x10\xff\xff\xff\xff\x0f"
        assert all(
            b"not found" in answer.lower() for answer in ask(iter([b"\x22\x01x", extension]), timeout=30)
        )
    assert not any("Traceback" in line for line in service.lines[before:])


def test_a_connection_has_a_bounded_number_of_calls_at_once_so_that_none_is_cancelled(
    service: RunningService,
) -> None:
    with grpc.insecure_channel(service.grpc_address) as channel:
        live = channel.unary_unary(f"/{SERVICE}/ServerLive")
        calls = [live.future(b"", timeout=60, wait_for_ready=True) for _ in range(10_000)]
        codes = {call.code() for call in calls}
    # those that come before the client knows the bound are refused as calls to send again
    assert grpc.StatusCode.OK in codes
    assert codes <= {grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE}


def test_probes_do_not_wait_for_calls_that_never_send_their_message(service: RunningService) -> None:
    target, never = service.grpc_address, Event()
    with grpc.insecure_channel(target) as channel, grpc.insecure_channel(target) as probes:
        ask = channel.stream_stream(f"/{SERVICE}/ModelInfer")
        silent = [ask(iter(lambda: bytes(never.wait()), b""), timeout=60) for _ in range(20)]
        try:
            wait_until(lambda: service.metric("pushforward_inflight_requests") >= len(silent))
            for path in (f"/{SERVICE}/ServerLive", f"/{SERVICE}/ServerReady", "/grpc.health.v1.Health/Check"):
                assert probes.unary_unary(path)(b"", timeout=2) == b"\x08\x01"
            with pytest.raises(grpc.RpcError) as raised:
                probes.unary_unary(f"/{SERVICE}/ServerLive")(bytes(2**20), timeout=60)
            assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        finally:
            for call in silent:
                call.cancel()
            never.set()


def test_an_error_is_told_however_much_it_could_name(client: triton.InferenceServerClient) -> None:
    latents = triton.InferInput("latents", [1, 2], "FP32")
    latents.set_data_from_numpy(np.zeros([1, 2], np.float32))
    latents.set_shape([1] * 60_000)
    with pytest.raises(InferenceServerException) as raised:
        client.infer(DECODE, [latents])
    assert raised.value.status() == "StatusCode.INVALID_ARGUMENT"
    assert raised.value.message().startswith("`latents` has 60000 axes; wanted [rows, 2]")


@pytest.mark.parametrize("letter", ["a", "é", "像"])
def test_a_long_sentence_of_an_error_is_cut_between_letters(letter: str) -> None:
    assert shortened(letter * 400) == letter * 400
    cut = shortened(letter * 10_000)
    assert cut.removesuffix(" ...").strip(letter) == ""
    assert len(quote(cut)) < 5_000


def test_bodies_of_over_two_gigabytes_are_no_number_that_grpc_cannot_take(models: Path) -> None:
    options = "--grpc-port", "0", "--max-body-bytes", str(2**32)
    with running_service(models, *options) as service, grpc.insecure_channel(service.grpc_address) as channel:
        assert channel.unary_unary(f"/{SERVICE}/ServerLive")(b"", timeout=60) == b"\x08\x01"


def test_a_broken_header_of_a_client_is_no_line_of_the_log(tmp_path: Path) -> None:
    def literal(name: bytes, value: bytes) -> bytes:
        return bytes((0, len(name))) + name + bytes((len(value),)) + value

    def frame(kind: int, flags: int, stream: int, content: bytes) -> bytes:
        return len(content).to_bytes(3) + bytes((kind, flags)) + stream.to_bytes(4) + content

    headers = b"".join(
        literal(*header)
        for header in (
            (b":method", b"POST"), (b":scheme", b"http"), (b":path", f"/{SERVICE}/ServerLive".encode()),
            (b"te", b"trailers"), (b"content-type", b"application/grpc"), (b"grpc-timeout", b"soon"),
        )
    )  # fmt: skip
    call = frame(4, 0, 0, b"") + frame(1, 4, 1, headers) + frame(0, 1, 1, bytes(5))
    toy.publish_toy(tmp_path)
    with running_service(tmp_path, "--grpc-port", "0") as service:
        host, port = service.grpc_address.split(":")
        with socket.create_connection((host, int(port)), timeout=30) as connection:
            connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + call)
            came = b""
            while b"grpc-status" not in came and (more := connection.recv(65_536)):
                came += more
    service.wait_until_all_are_gone()
    assert [line for line in service.lines if "grpc-timeout" in line] == []
