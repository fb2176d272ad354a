"""gRPC's server reflection: clients such as grpcurl ask what the messages of a service are.

Source: https://github.com/grpc/grpc/blob/master/doc/server-reflection.md.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final

import grpc
from google.protobuf.message import DecodeError
from grpc_reflection.v1alpha import reflection
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest

from service.api.open_inference.compression import whole_message
from service.errors import ServiceError

_MOST_BYTES: Final = 2**12
"""Most bytes of a question; one has a name in it."""


def reflection_of(*services: str) -> grpc.GenericRpcHandler:
    """Return a handler that describes these services and itself; it needs no key, as they are no secret."""
    names = (*services, reflection.SERVICE_NAME)
    servicer = reflection.aio.ReflectionServicer(names)

    async def answers(bodies: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        async def requests() -> AsyncIterator[ServerReflectionRequest]:
            async for body in bodies:
                if len(body) > _MOST_BYTES:
                    del body  # what is raised keeps this frame
                    await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "the message is too long")
                try:
                    yield ServerReflectionRequest.FromString(await whole_message(body, _MOST_BYTES))
                except (DecodeError, ServiceError):
                    await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "the message cannot be read")

        async for answer in servicer.ServerReflectionInfo(requests(), context):
            yield answer.SerializeToString()

    handlers = {"ServerReflectionInfo": grpc.stream_stream_rpc_method_handler(answers)}
    return grpc.method_handlers_generic_handler(reflection.SERVICE_NAME, handlers)
