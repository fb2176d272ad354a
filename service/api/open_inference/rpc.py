"""The Open Inference Protocol over gRPC, on its own port: what each call asks of the data plane.

It needs the extra `grpc`, so nothing imports this module unless gRPC is enabled.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from operator import methodcaller
from typing import Any, Final, TypeAlias

import grpc
import grpc.aio
import numpy as np
from google.protobuf.message import DecodeError

from service import errors
from service.api.body import ByteBudget
from service.api.keys import Keys
from service.api.open_inference import open_inference_pb2 as messages
from service.api.open_inference.codes import CODES
from service.api.open_inference.compression import KEEP_COMPRESSED, whole_message
from service.api.open_inference.model import CONTENT_TYPE, InferenceAnswer, InferenceModel, InferenceRequest
from service.api.open_inference.plane import DataPlane
from service.api.open_inference.tensors import DTYPES, Array, Datatype
from service.api.problems import client_error, rejection_of, sentence
from service.api.tls import Certificate
from service.observe.metrics import Metrics
from service.observe.timing import Timing
from service.settings import Settings

_Fields: TypeAlias = "Mapping[int, _Fields | None]"
SERVICE: Final = "inference.GRPCInferenceService"
HEALTH: Final = "grpc.health.v1.Health"
_HEALTH: Final = {True: b"\x08\x01", False: b"\x08\x02"}
"""The messages that say SERVING and NOT_SERVING."""
_MOST_HEALTH_BYTES: Final = 2**10
"""Most bytes of a question for health; one has a name in it."""
_MOST_FREQUENT_PING_MILLISECONDS: Final = 5_000
"""Clients that ping more often are sent away; many ping every ten seconds."""
_CONTENTS: Final[dict[Datatype, str]] = {"INT64": "int64_contents", "FP32": "fp32_contents"}
"""Field of an input's contents, if they are not raw bytes."""
_PARAMETERS: Final = {bool: "bool_param", int: "int64_param", float: "double_param", str: "string_param"}
"""Field of an answer's parameter."""
_PARAMETERS_FIELDS: Final[_Fields] = {2: {}}
_REQUEST_FIELDS: Final[_Fields] = {
    4: _PARAMETERS_FIELDS,
    5: {4: _PARAMETERS_FIELDS, 5: {6: None}},
    6: {2: _PARAMETERS_FIELDS},
    7: None,
}
"""Fields of an inference request that are messages, by number; None for those that hold numbers as bytes."""
_UNCHECKED_BYTES: Final = 2**16
"""Shorter requests cannot hold enough fields to matter."""
_MOST_FIELDS: Final = 2**10
_BYTES_PER_FIELD: Final = 2**9
"""Each such part of a field's bytes counts as one more field."""

log = logging.getLogger(__name__)


class RpcServer:
    """Serves `inference.GRPCInferenceService`; `start` must be awaited in the event loop."""

    def __init__(
        self,
        plane: DataPlane,
        metrics: Metrics,
        settings: Settings,
        budget: ByteBudget,
        keys: Keys | None = None,
        certificate: Certificate | None = None,
    ) -> None:
        self._budget = budget
        self._certificate = certificate
        self._keys = keys
        self._plane = plane
        self._metrics = metrics
        self._settings = settings
        self._server: Any = None
        self._stopping: asyncio.Task[None] | None = None

    async def start(self, port: int) -> None:
        """Listen on a port of HTTP's host, and log the address.

        Raises:
            CannotListen: the address cannot be listened on, for example because it is in use.
        """
        server = grpc.aio.server(
            options=[
                ("grpc.max_receive_message_length", self._settings.max_body_bytes),
                ("grpc.max_send_message_length", -1),
                KEEP_COMPRESSED,
                ("grpc.so_reuseport", int(self._settings.replicas > 1)),
                ("grpc.http2.min_recv_ping_interval_without_data_ms", _MOST_FREQUENT_PING_MILLISECONDS),
                ("grpc.keepalive_permit_without_calls", 1),
            ]
        )
        calls = {
            "ServerLive": (messages.ServerLiveRequest, self._live),
            "ServerReady": (messages.ServerReadyRequest, self._ready),
            "ModelReady": (messages.ModelReadyRequest, self._model_ready),
            "ServerMetadata": (messages.ServerMetadataRequest, self._server_metadata),
            "ModelMetadata": (messages.ModelMetadataRequest, self._model_metadata),
            "ModelInfer": (messages.ModelInferRequest, self._infer),
        }
        handlers = {name: self._handler(kind, call) for name, (kind, call) in calls.items()}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
        check = {"Check": grpc.unary_unary_rpc_method_handler(self._health)}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(HEALTH, check),))
        if self._settings.public_docs:
            with contextlib.suppress(ImportError):  # installed without it
                from service.api.open_inference.reflection import reflection_of

                server.add_generic_rpc_handlers((reflection_of(SERVICE),))
        host = self._settings.host
        where = f"[{host}]" if ":" in host else host
        try:
            bound = _bind(server, f"{where}:{port}", self._certificate)
        except RuntimeError as error:
            raise errors.CannotListen(f"cannot serve gRPC on {where}:{port}; is the port in use?") from error
        await server.start()
        self._server = server
        log.info("serving gRPC on %s:%d", where, bound)

    def begin_to_stop(self) -> None:
        """Refuse new calls, and end those in flight after `drain_seconds`; call it in the event loop."""
        if self._server is not None and self._stopping is None:
            self._stopping = asyncio.create_task(self._server.stop(self._settings.drain_seconds))

    async def stop(self) -> None:
        """Refuse new calls, and wait for those in flight."""
        self.begin_to_stop()
        if self._stopping is not None:
            await self._stopping

    def _handler(self, kind: Any, call: Callable[[Any, Any], Awaitable[Any]]) -> Any:
        async def answer(body: bytes, context: Any) -> Any:
            self._metrics.inflight.add(1)
            held = 0
            try:
                if call not in (self._live, self._ready):
                    self._check_key(context)
                self._budget.take(len(body), held)
                held += len(body)
                whole = await whole_message(body, self._settings.max_body_bytes)
                if whole is not body:
                    self._budget.take(len(whole), held)
                    held += len(whole)
                return await call(parsed(kind, whole), context)
            except Exception as error:  # the client gets a status and no internals
                await self._fail(error, context)
            finally:
                self._budget.used -= held
                self._metrics.inflight.add(-1)

        serialise = methodcaller("SerializeToString")
        return grpc.unary_unary_rpc_method_handler(answer, response_serializer=serialise)

    def _check_key(self, context: Any) -> None:
        if self._keys is not None:
            sent = {name: value for name, value in context.invocation_metadata() if isinstance(value, str)}
            key = self._keys.check(sent.get("authorization", ""), sent.get("x-api-key", ""))
            self._metrics.uses_of(key.name).add()

    async def _fail(self, error: Exception, context: Any) -> None:
        known = client_error(error, secrets.token_hex(16))
        if reason := rejection_of(known):
            self._metrics.rejected.labels(reason).inc()
        metadata: tuple[tuple[str, str], ...] = ()
        if isinstance(known, errors.Overloaded | errors.Unavailable):
            metadata = (("retry-after", str(known.retry_after_seconds)),)
        code = next(CODES[ancestor] for ancestor in type(known).__mro__ if ancestor in CODES)
        await context.abort(code, sentence(known), metadata)

    async def _health(self, body: bytes, context: Any) -> bytes:
        """Answer gRPC's health check: of the service, or of a model by its name; it needs no key.

        Source: https://github.com/grpc/grpc/blob/master/doc/health-checking.md.
        """
        try:
            body = await whole_message(body, _MOST_HEALTH_BYTES)
        except errors.ServiceError as error:
            await self._fail(error, context)
        # the message has one field, a text; longer names than a byte of length tells are of no model
        name = body[2:].decode(errors="replace") if body[:1] == b"\n" and len(body) == 2 + body[1] else ""
        if name in ("", SERVICE):
            return _HEALTH[self._plane.ready]
        try:
            self._plane.find(name)
        except errors.Unavailable:
            return _HEALTH[False]
        except errors.NotFound:
            await context.abort(grpc.StatusCode.NOT_FOUND, "there is no such service or model")
        return _HEALTH[self._plane.ready]

    async def _live(self, _: Any, __: Any) -> Any:
        return messages.ServerLiveResponse(live=self._plane.live)

    async def _ready(self, _: Any, __: Any) -> Any:
        return messages.ServerReadyResponse(ready=self._plane.ready)

    async def _model_ready(self, request: Any, _: Any) -> Any:
        try:
            self._plane.find(request.name, request.version)
        except (errors.NotFound, errors.Unavailable):
            return messages.ModelReadyResponse(ready=False)
        return messages.ModelReadyResponse(ready=True)

    async def _server_metadata(self, _: Any, __: Any) -> Any:
        document = self._plane.server()
        return messages.ServerMetadataResponse(**document | {"extensions": []})  # which REST has

    async def _model_metadata(self, request: Any, _: Any) -> Any:
        document = self._plane.metadata(request.name, request.version)
        kind = messages.ModelMetadataResponse.TensorMetadata
        tensors = {side: [kind(**tensor) for tensor in document[side]] for side in ("inputs", "outputs")}
        return messages.ModelMetadataResponse(**document | tensors)

    async def _infer(self, message: Any, context: Any) -> Any:
        loaded, model = self._plane.find(message.model_name, message.model_version)
        remaining = context.time_remaining()
        longest = self._settings.deadline_seconds
        try:
            async with asyncio.timeout(longest if remaining is None else min(longest, remaining)) as limit:
                started_at = asyncio.get_running_loop().time()

                async def read() -> InferenceRequest:
                    request = _request(model, message, self._settings.max_npy_inputs)
                    end = limit.when()
                    if request.timeout_seconds is not None and end is not None:
                        limit.reschedule(min(end, started_at + request.timeout_seconds))
                    return request

                write = partial(_response, model)
                with loaded:  # which stays until it has answered
                    return await self._plane.infer(loaded, model, Timing(), read, write)
        except TimeoutError as error:
            raise errors.DeadlineExceeded("the answer was not ready in time") from error


def _bind(server: Any, address: str, certificate: Certificate | None) -> int:
    """Bind an address, with TLS if there is a certificate, and return the port."""
    if certificate is None:
        return int(server.add_insecure_port(address))

    served = certificate.pem

    def renewed() -> Any:  # called at each handshake
        nonlocal served
        if certificate.pem is served:
            return None
        served = certificate.pem
        return grpc.ssl_server_certificate_configuration([served])

    first = grpc.ssl_server_certificate_configuration([served])
    return int(server.add_secure_port(address, grpc.dynamic_ssl_server_credentials(first, renewed)))


def parsed(kind: Any, body: bytes) -> Any:
    """Return the message that a body holds.

    Raises:
        Malformed: it holds none of that kind.
        LimitExceeded: it has more fields than any request for a model.
    """
    try:
        if kind is messages.ModelInferRequest and len(body) > _UNCHECKED_BYTES:
            _check_fields(body)
        return kind.FromString(body)
    except (DecodeError, IndexError) as error:
        raise errors.Malformed("the message cannot be read") from error


def _check_fields(body: bytes) -> None:
    """Refuse a request of too many fields, before objects are made: an empty one has two bytes in a body."""
    place = count = 0

    def number() -> int:
        nonlocal place
        value = shift = 0
        while (byte := body[place]) >= 0x80:
            value |= (byte & 0x7F) << shift
            place, shift = place + 1, shift + 7
            if shift > 63:  # no number of the format is longer
                raise errors.Malformed("the message cannot be read")
        place += 1
        return value | byte << shift

    waiting: list[tuple[int, int, _Fields]] = [(0, len(body), _REQUEST_FIELDS)]
    while waiting:
        place, end, fields = waiting.pop()
        while place < end:
            field, kind = divmod(number(), 8)
            size = number() if kind == 2 else {1: 8, 5: 4}.get(kind, 0)
            if kind == 0:
                number()
            within = fields.get(field, {})
            if kind == 2 and within:
                waiting.append((place, place + size, within))
            elif within is not None:
                count += size // _BYTES_PER_FIELD
            count, place = count + 1, place + size
            if count > _MOST_FIELDS:
                raise errors.LimitExceeded(
                    "the request has more inputs, outputs, parameters or numbers than are read"
                )


def _request(model: InferenceModel, message: Any, max_rows: int) -> InferenceRequest:
    raw = message.raw_input_contents
    if raw and len(raw) != len(message.inputs):
        raise errors.Unfit(f"{len(raw)} raw contents came for {len(message.inputs)} inputs; each takes one")
    if any(output.parameters.keys() - {CONTENT_TYPE} for output in message.outputs):
        raise errors.Unfit(
            "outputs have no parameters here; neither classification nor shared memory is offered"
        )
    arrays: dict[str, Array] = {}
    for place, given in enumerate(message.inputs):
        tensor = model.input(given.name)
        if tensor.name in arrays:
            raise errors.Unfit(f"`{tensor.name}` came twice")
        if raw and given.HasField("contents"):
            raise errors.Unfit(f"`{tensor.name}` must have either contents or raw contents, and not both")
        tensor.check(given.datatype, given.shape, max_rows)
        contents = raw[place] if raw else _contents(given.contents, tensor.datatype)
        arrays[tensor.name] = tensor.from_bytes(contents, given.shape)
    outputs = tuple(output.name for output in message.outputs)
    return InferenceRequest(arrays, _parameters(message.parameters), outputs, message.id)


def _contents(given: Any, datatype: Datatype) -> bytes:
    """Return the numbers of the field that a datatype has, as raw contents have them."""
    values = getattr(given, _CONTENTS[datatype])
    if datatype != "FP32":
        return np.array(values, DTYPES[datatype]).tobytes()
    given.DiscardUnknownFields()
    for field, _ in given.ListFields():
        if field.name != _CONTENTS[datatype]:
            given.ClearField(field.name)
    # the field's own bytes end the message; a list of millions would hold the loop
    whole: bytes = given.SerializeToString()
    return whole[-4 * len(values) :] if values else b""


def _parameters(given: Mapping[str, Any]) -> dict[str, Any]:
    parameters = {}
    for name, parameter in given.items():
        kind = parameter.WhichOneof("parameter_choice")
        if kind is None:
            raise errors.Unfit("a parameter has no value of a kind that is known here")
        parameters[name] = getattr(parameter, kind)
    return parameters


async def _response(model: InferenceModel, request: InferenceRequest, answer: InferenceAnswer) -> Any:
    response = messages.ModelInferResponse(model_name=model.name, model_version=model.version, id=request.id)
    for name, value in answer.parameters.items():
        setattr(response.parameters[name], _PARAMETERS[type(value)], value)
    for tensor, array in answer.tensors:
        response.outputs.add(name=tensor.name, datatype=tensor.datatype, shape=array.shape)
        response.raw_output_contents.append(bytes(tensor.to_bytes(array)))
    return response
