"""Messages of gRPC as requests of the data plane, and its answers as messages."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final, TypeAlias

import numpy as np
from google.protobuf.message import DecodeError

from service import errors
from service.api.body import Held
from service.api.open_inference import open_inference_pb2 as messages
from service.api.open_inference.model import CONTENT_TYPE, InferenceAnswer, InferenceModel, InferenceRequest
from service.api.open_inference.tensors import DTYPES, Array, Datatype

_Fields: TypeAlias = "Mapping[int, _Fields | None]"
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
_RAW_OUTPUT_CONTENTS: Final = b"\x32"
"""The tag of the field 6, which is bytes."""
_UNCHECKED_BYTES: Final = 2**16
"""Shorter requests cannot hold enough fields to matter."""
_MOST_FIELDS: Final = 2**10
_BYTES_PER_FIELD: Final = 2**9
"""Each such part of a field's bytes counts as one more field."""
_LARGE_BYTES: Final = 2**18
"""Larger answers are joined in a thread; Python releases the interpreter meanwhile."""


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


def request_of(model: InferenceModel, message: Any) -> InferenceRequest:
    """Return the request that a message is.

    Raises:
        Unfit: its tensors, outputs or parameters do not fit the model.
        LimitExceeded: it has more rows than the model takes at once.
    """
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
        tensor.check(given.datatype, given.shape, model.max_message_rows)
        contents = raw[place] if raw else _contents(given, tensor.datatype)
        arrays[tensor.name] = tensor.from_bytes(contents, given.shape)
    outputs = tuple(output.name for output in message.outputs)
    return InferenceRequest(arrays, _parameters(message.parameters), outputs, message.id)


def _contents(tensor: Any, datatype: Datatype) -> bytes:
    """Return the numbers of the field that a datatype has, as raw contents have them."""
    given = tensor.contents
    values = getattr(given, _CONTENTS[datatype])
    if not values:
        raise errors.Unfit(
            f"`{tensor.name}` came without numbers; send them in `{_CONTENTS[datatype]}` or in "
            "`raw_input_contents`"
        )
    if datatype != "FP32":
        return np.array(values, DTYPES[datatype]).tobytes()
    given.DiscardUnknownFields()
    for field, _ in given.ListFields():
        if field.name != _CONTENTS[datatype]:
            given.ClearField(field.name)
    # the field's own bytes end the message; a list of millions would hold the loop
    whole: bytes = given.SerializeToString()
    return whole[-4 * len(values) :]


def _parameters(given: Mapping[str, Any]) -> dict[str, Any]:
    parameters = {}
    for name, parameter in given.items():
        kind = parameter.WhichOneof("parameter_choice")
        if kind is None:
            raise errors.Unfit("a parameter has no value of a kind that is known here")
        parameters[name] = getattr(parameter, kind)
    return parameters


async def response_of(
    model: InferenceModel, held: Held, request: InferenceRequest, answer: InferenceAnswer
) -> bytes:
    """Return the message of an answer, in which each array is copied once. Raises Busy, before it is made."""
    size = sum(array.nbytes for _, array in answer.tensors)
    held.take(size)
    response = messages.ModelInferResponse(model_name=model.name, model_version=model.version, id=request.id)
    for name, value in answer.parameters.items():
        setattr(response.parameters[name], _PARAMETERS[type(value)], value)
    contents: list[bytes | memoryview] = []
    for tensor, array in answer.tensors:
        response.outputs.add(name=tensor.name, datatype=tensor.datatype, shape=array.shape)
        contents += (_RAW_OUTPUT_CONTENTS, _varint(array.nbytes), tensor.to_bytes(array))
    pieces = [response.SerializeToString(), *contents]
    return await asyncio.to_thread(b"".join, pieces) if size > _LARGE_BYTES else b"".join(pieces)


def _varint(number: int) -> bytes:
    """Return a length as messages have it: seven bits in each byte, the least first."""
    return bytes([number & 0x7F | 0x80]) + _varint(number >> 7) if number >= 0x80 else bytes([number])
