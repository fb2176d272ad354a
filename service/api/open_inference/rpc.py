"""The Open Inference Protocol over gRPC, on its own port: what each call asks of the data plane.

It needs the extra `grpc`, so nothing imports this module unless gRPC is enabled.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import resource
import secrets
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final, TypeAlias

import grpc
import grpc.aio

from service import errors
from service.api.body import ByteBudget, Held
from service.api.keys import Keys
from service.api.open_inference import open_inference_pb2 as messages
from service.api.open_inference.codes import CODES, shortened
from service.api.open_inference.compression import KEEP_COMPRESSED, whole_message
from service.api.open_inference.model import InferenceRequest
from service.api.open_inference.plane import DataPlane
from service.api.open_inference.protobuf import parsed, request_of, response_of
from service.api.open_inference.reception import Reception
from service.api.problems import client_error, rejection_of, sentence, status_of
from service.api.tls import Certificate
from service.observe.metrics import Metrics
from service.observe.timing import Timing
from service.settings import Settings

SERVICE: Final = "inference.GRPCInferenceService"
HEALTH: Final = "grpc.health.v1.Health"
_HEALTH: Final = {True: b"\x08\x01", False: b"\x08\x02"}
"""The messages that say SERVING and NOT_SERVING."""
_MOST_PROBE_BYTES: Final = 2**10
"""Most bytes of a probe; one has a name in it."""
_PROBE_PATIENCE_SECONDS: Final = 0.5
_MOST_CALLS: Final = 1_000
"""Most calls at once on a connection; clients keep others back by themselves. Without a bound, one that
begins thousands fills what gRPC holds for all clients, and calls of others end as CANCELLED."""
_MOST_NUMBER: Final = 2**31 - 1
_MOST_FREQUENT_PING_MILLISECONDS: Final = 5_000
"""Clients that ping more often are sent away; many ping every ten seconds."""

_Call: TypeAlias = "Callable[[Any, Held, Any], Awaitable[Any]]"

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
        # half of the budget, since a message is copied once when it is there
        self._reception = Reception(max(1, settings.max_inflight_bytes // settings.max_body_bytes // 2))
        self._probes = Reception(1, _PROBE_PATIENCE_SECONDS)  # short ones, which wait for no others
        self._keys = keys
        self._plane = plane
        self._metrics = metrics
        self._settings = settings
        self._server: Any = None
        self._stopping: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Listen on the port of the settings and HTTP's host, and log the address.

        Raises:
            CannotListen: the address cannot be listened on, for example because it is in use.
        """
        settings, port = self._settings, self._settings.grpc_port or 0
        server = grpc.aio.server(
            options=[
                ("grpc.max_receive_message_length", min(settings.max_body_bytes, _MOST_NUMBER)),
                ("grpc.max_send_message_length", -1),
                ("grpc.max_concurrent_streams", _MOST_CALLS),
                KEEP_COMPRESSED,
                # half of the open files, since HTTP cannot close these connections for its own
                ("grpc.max_allowed_incoming_connections", _most_connections()),
                ("grpc.server_handshake_timeout_ms", round(1e3 * settings.idle_seconds)),
                ("grpc.max_connection_idle_ms", 1_000 * settings.keep_alive_seconds),
                ("grpc.http2.bdp_probe", 0),  # else megabytes of each message come before it is asked for
                ("grpc.so_reuseport", int(settings.replicas > 1)),
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
        handlers = {
            name: self._handler(f"/{SERVICE}/{name}", partial(parsed, kind), call)
            for name, (kind, call) in calls.items()
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
        check = {"Check": self._handler(f"/{HEALTH}/Check", _health_name, self._health)}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(HEALTH, check),))
        if settings.public_docs:
            with contextlib.suppress(ImportError):  # installed without it
                from service.api.open_inference.reflection import reflection_of

                server.add_generic_rpc_handlers((reflection_of(SERVICE),))
        host = settings.host
        where = f"[{host}]" if ":" in host else host
        try:
            bound = _bind(server, f"{where}:{port}", self._certificate)
        except RuntimeError as error:
            raise errors.CannotListen(f"cannot serve gRPC on {where}:{port}; choose another port") from error
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

    def _handler(self, path: str, parse: Callable[[bytes], Any], call: _Call) -> Any:
        """Return gRPC's handler of calls; they are counted by their path, with the codes of HTTP."""
        self._metrics.expect(path, "POST")

        async def answer(_: Any, context: Any) -> None:
            self._metrics.inflight_requests += 1
            refusal: list[Any] = []
            try:
                await self._answer(parse, call, context)
                self._metrics.answered(path, "POST", 200)
            except Exception as error:  # the client gets a status and no internals
                status, *refusal = self._refusal(error)
                self._metrics.answered(path, "POST", status)
            finally:
                self._metrics.inflight_requests -= 1
            if refusal:
                # gRPC keeps the exception that this raises in a cycle, with all that frames and causes hold:
                # neither the message nor the error may be among them
                await context.abort(*refusal)

        # on the wire a call of one message each way is a stream of one each way; gRPC's handler of the former
        # reads the message before it asks for anything, and sends the answer after
        return grpc.stream_stream_rpc_method_handler(answer)

    async def _answer(self, parse: Callable[[bytes], Any], call: _Call, context: Any) -> None:
        reception, longest = self._reception, self._settings.max_body_bytes
        with Held(self._budget) as held:
            if call in (self._live, self._ready, self._health):
                reception, longest = self._probes, _MOST_PROBE_BYTES
            else:
                self._check_key(context)
            body = await self._received(reception, held, longest, context)
            answered = await call(parse(body), held, context)
            # its bytes count until gRPC has passed them on, so that slow readers cannot add up
            await self._sent(answered, context)

    async def _received(self, reception: Reception, held: Held, longest: int, context: Any) -> bytes:
        address, *_ = context.peer().rpartition(":")  # without the port, of which a client has many
        async with reception.place(address):
            body = await context.read()
        if body is grpc.aio.EOF:
            raise errors.Malformed("the call ended without a message")
        if len(body) > longest:
            raise errors.BodyTooLarge(f"the message has over {longest} bytes; send less at a time")
        held.take(len(body))
        whole = await whole_message(body, longest)
        if whole is not body:
            held.take(len(whole))
        return whole

    async def _sent(self, answer: Any, context: Any) -> None:
        body = answer if isinstance(answer, bytes) else answer.SerializeToString()
        try:
            async with asyncio.timeout(self._settings.deadline_seconds):
                await context.write(body)
        except TimeoutError as error:
            raise errors.DeadlineExceeded("the answer was not read in time; ask for less") from error

    def _check_key(self, context: Any) -> None:
        if self._keys is not None:
            sent = {name: value for name, value in context.invocation_metadata() if isinstance(value, str)}
            key = self._keys.check(sent.get("authorization", ""), sent.get("x-api-key", ""))
            self._metrics.uses_of(key.name).add()

    def _refusal(self, error: Exception) -> tuple[int, grpc.StatusCode, str, tuple[tuple[str, str], ...]]:
        """Return the status that HTTP has for an error; and gRPC's, the sentence and the metadata."""
        known = client_error(error, secrets.token_hex(16))
        if reason := rejection_of(known):
            self._metrics.rejected.labels(reason).inc()
        metadata: tuple[tuple[str, str], ...] = ()
        if isinstance(known, errors.Overloaded | errors.Unavailable):
            metadata = (("retry-after", str(known.retry_after_seconds)),)
        code = next(CODES[ancestor] for ancestor in type(known).__mro__ if ancestor in CODES)
        return status_of(known), code, shortened(sentence(known)), metadata

    async def _health(self, name: str, *_: Any) -> bytes:
        """Answer gRPC's health check: of the service, or of a model by its name; it needs no key.

        Source: https://github.com/grpc/grpc/blob/master/doc/health-checking.md.
        """
        if name not in ("", SERVICE):
            try:
                self._plane.find(name)
            except errors.Unavailable:
                return _HEALTH[False]
        return _HEALTH[self._plane.lifecycle.ready]

    async def _live(self, *_: Any) -> Any:
        return messages.ServerLiveResponse(live=self._plane.lifecycle.healthy)

    async def _ready(self, *_: Any) -> Any:
        return messages.ServerReadyResponse(ready=self._plane.lifecycle.ready)

    async def _model_ready(self, request: Any, *_: Any) -> Any:
        try:
            self._plane.find(request.name, request.version)
        except (errors.NotFound, errors.Unavailable):
            return messages.ModelReadyResponse(ready=False)
        return messages.ModelReadyResponse(ready=True)

    async def _server_metadata(self, *_: Any) -> Any:
        document = self._plane.server()
        return messages.ServerMetadataResponse(**document | {"extensions": []})  # which REST has

    async def _model_metadata(self, request: Any, *_: Any) -> Any:
        document = self._plane.metadata(request.name, request.version)
        kind = messages.ModelMetadataResponse.TensorMetadata
        tensors = {side: [kind(**tensor) for tensor in document[side]] for side in ("inputs", "outputs")}
        return messages.ModelMetadataResponse(**document | tensors)

    async def _infer(self, message: Any, held: Held, context: Any) -> bytes:
        loaded, model = self._plane.find(message.model_name, message.model_version)
        remaining = context.time_remaining()
        longest = self._settings.deadline_seconds
        try:
            async with asyncio.timeout(longest if remaining is None else min(longest, remaining)) as limit:
                started_at = asyncio.get_running_loop().time()

                async def read() -> InferenceRequest:
                    request = request_of(model, message)
                    end = limit.when()
                    if request.timeout_seconds is not None and end is not None:
                        limit.reschedule(min(end, started_at + request.timeout_seconds))
                    return request

                write = partial(response_of, model, held)
                with loaded:  # which stays until it has answered
                    return await self._plane.infer(loaded, model, Timing(), read, write)
        except TimeoutError as error:
            raise errors.DeadlineExceeded("the answer was not ready in time; ask for less") from error


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


def _most_connections() -> int:
    """Return half of the files that may be open, if that is a number gRPC takes."""
    most_files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MOST_NUMBER if most_files == resource.RLIM_INFINITY else min(most_files // 2, _MOST_NUMBER)


def _health_name(body: bytes) -> str:
    """Return the name that a health check asks for: the message has one field, a text.

    No model has a name of over 127 bytes, whose length takes two; such a message asks for the service.
    """
    return body[2:].decode(errors="replace") if body[:1] == b"\n" and len(body) == 2 + body[1] else ""
