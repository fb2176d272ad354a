"""Requests and answers over REST: a JSON document, and after it the tensors that are sent as bytes.

If tensors follow the document, the header `Inference-Header-Content-Length` holds its length; a length of 0
means that the body is one tensor and nothing else. Source: Triton's extension for binary data,
https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import chain
from typing import Annotated, Any, Final, NamedTuple

import numpy as np
import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from service.api.answer import JSON, Answer, Piece, array_pieces, in_turns, to_json
from service.api.body import ENVELOPE_BYTES, JSON_BYTES_PER_VALUE, WINDOW_BITS
from service.api.json_bodies import check_json, cut_lists, json_text
from service.api.open_inference.model import CONTENT_TYPE, InferenceAnswer, InferenceModel, InferenceRequest
from service.api.open_inference.tensors import Array, TensorMetadata
from service.api.problems import unfit
from service.errors import LimitExceeded, Malformed, Unfit
from service.settings import Settings

BINARY: Final = "application/octet-stream"
JSON_LENGTH: Final = b"inference-header-content-length"
_BESIDE_THE_LOOP_BYTES: Final = 2**16
"""Larger answers are compressed in a thread; zlib releases the GIL."""
_FASTEST: Final = 1
"""Floats hardly become smaller by more effort."""
_MOST_AXES: Final = 8
_MOST_DIGITS: Final = 20
_LONGEST_REPEATED: Final = 2**10
_MOST_LAYOUTS: Final = 256
"""Most layouts that a model keeps: a client that sends the same number of rows repeats its document."""
Parameters = Annotated[dict[str, Any], Field(max_length=64)]
"""Values of any type, because pydantic's error for a misfit would repeat the client's key."""


async def compressed(answer: Answer, accept_encoding: str) -> Answer:
    """Return an answer, compressed if its client accepts that encoding alone, as the clients of Triton do.

    HTTP libraries accept several of their own accord, and compressing floats takes far longer than sending
    them: such a client gets them as they are, which RFC 9110 always allows.
    """
    encoding = accept_encoding.strip().lower()
    if encoding not in WINDOW_BITS:
        return answer
    headers = (*answer.headers, (b"content-encoding", encoding.encode()))
    deflater = zlib.compressobj(_FASTEST, wbits=WINDOW_BITS[encoding])
    if isinstance(answer.body, bytes | list):
        pieces = [answer.body] if isinstance(answer.body, bytes) else answer.body
        if sum(map(len, pieces)) <= _BESIDE_THE_LOOP_BYTES:
            body = _deflated(deflater, pieces)
        else:
            body = await asyncio.to_thread(_deflated, deflater, pieces)
        return replace(answer, body=body, length=len(body), headers=headers)
    return replace(answer, body=_deflating(deflater, answer.body), length=None, headers=headers)


def _deflated(deflater: Any, pieces: Iterable[Piece]) -> bytes:
    return b"".join((*map(deflater.compress, pieces), deflater.flush()))


async def _deflating(deflater: Any, pieces: AsyncIterator[Piece]) -> AsyncIterator[Piece]:
    async for piece in pieces:
        yield await asyncio.to_thread(deflater.compress, piece)
    yield deflater.flush()


class _Document(BaseModel):
    """Base of the parts of a request's document; unknown keys pass, as the protocol may get new ones."""

    model_config = ConfigDict(strict=True, frozen=True, allow_inf_nan=False)


class InputDocument(_Document):
    """An input tensor: its contents, or their size among the bytes that follow."""

    name: str
    shape: Annotated[list[Annotated[int, Field(ge=0, lt=2**53)]], Field(max_length=_MOST_AXES)]
    datatype: str
    parameters: Parameters = {}
    data: list[Any] | None = None


class OutputDocument(_Document):
    """A requested output."""

    name: str
    parameters: Parameters = {}


class RequestDocument(_Document):
    """The JSON document of a request."""

    id: str = ""
    parameters: Parameters = {}
    inputs: Annotated[list[InputDocument], Field(fail_fast=True)]
    outputs: Annotated[list[OutputDocument], Field(fail_fast=True)] | None = None


@dataclass(frozen=True, slots=True)
class WireRequest(InferenceRequest):
    """A request, and the encoding of its answer."""

    binary_outputs: bool = False
    """True to send outputs as bytes, unless `binary_by_name` says otherwise."""
    binary_by_name: Mapping[str, bool] = field(default_factory=dict)

    def is_binary(self, name: str) -> bool:
        """Return True if an output is sent as bytes."""
        return self.binary_by_name.get(name, self.binary_outputs)


def body_limit(model: InferenceModel, settings: Settings, *, has_length: bool) -> int:
    """Return the most bytes a request can sensibly have: all rows as JSON and, if bytes follow, as bytes."""
    size = settings.max_json_inputs * model.input_values * JSON_BYTES_PER_VALUE
    if has_length:
        size += model.max_rows * model.input_bytes
    return min(settings.max_body_bytes, size + ENVELOPE_BYTES)


def read_request(model: InferenceModel, body: bytes, json_length: str, settings: Settings) -> WireRequest:
    """Return a request from its body and the header `Inference-Header-Content-Length`, which may be empty.

    Raises:
        Malformed, Unfit, LimitExceeded: the request cannot be read, or does not fit.
    """
    if not json_length:
        return _from_document(model, body, memoryview(b""), settings)
    plain = json_length.isascii() and json_length.isdigit() and len(json_length) <= _MOST_DIGITS
    if not plain or int(json_length) > len(body):
        raise Malformed("Inference-Header-Content-Length is no number of bytes that the body has")
    end = int(json_length)
    if not end:
        return _from_raw(model, body)
    if end > body_limit(model, settings, has_length=False):
        raise LimitExceeded("the JSON before the bytes is longer than any request for this model")
    return _from_document(model, body[:end], memoryview(body)[end:], settings)


def _from_raw(model: InferenceModel, body: bytes) -> WireRequest:
    """Return a request whose body is one tensor, of as many rows as its bytes hold; the answer is binary."""
    if len(model.inputs) > 1:
        raise Unfit(f"{model.name} takes several inputs, so the body cannot be one tensor alone")
    tensor = model.inputs[0]
    rows = len(body) // tensor.row_bytes
    shape = (rows, *tensor.row)
    tensor.check(tensor.datatype, shape, model.max_rows)
    arrays = {tensor.name: tensor.from_bytes(body, shape)}
    return WireRequest(arrays, binary_outputs=True)


def _from_document(model: InferenceModel, text: bytes, rest: memoryview, settings: Settings) -> WireRequest:
    layout = model.layouts.get(text)
    if layout is None:
        layout = _layout(model, text, min(settings.max_json_inputs, model.max_rows))
        if rest and len(text) <= _LONGEST_REPEATED:
            if len(model.layouts) >= _MOST_LAYOUTS:
                model.layouts.clear()
            model.layouts[text] = layout
    arrays: dict[str, Array] = {}
    for tensor, given, start, end in layout.tensors:
        if given.data is not None:
            cut = layout.lists.get(given.data[0]) if layout.lists and len(given.data) == 1 else None
            if cut is None:
                arrays[tensor.name] = tensor.from_values(given.data, given.shape)
            else:
                arrays[tensor.name] = tensor.from_list(cut, given.shape)
        elif end > len(rest):
            raise Unfit(f"the binary_data_size of `{tensor.name}` is no number of bytes that follow the JSON")
        else:
            arrays[tensor.name] = tensor.from_bytes(rest[start:end], given.shape)
    if layout.end != len(rest):
        raise Unfit(f"{len(rest) - layout.end} bytes follow the JSON that belong to no input")
    return replace(layout.request, arrays=arrays)


class _Layout(NamedTuple):
    """The content of a request's document: the request without its arrays, and the places of these."""

    request: WireRequest
    tensors: tuple[tuple[TensorMetadata, InputDocument, int, int], ...]
    """Each input, its part of the document, and the start and end of its bytes."""
    end: int
    """Number of bytes that follow."""
    lists: Mapping[str, bytes]
    """Long lists of numbers that were cut out of the document, as by `cut_lists`."""


def _layout(model: InferenceModel, text: bytes, max_json_inputs: int) -> _Layout:
    text = json_text(text)
    check_json(text, max_json_inputs * len(model.inputs), model.inputs[0].row)
    text, lists = cut_lists(text)
    try:
        if len(text) <= ENVELOPE_BYTES:
            document = RequestDocument.model_validate_json(text)
        else:  # in half the time and memory
            document = RequestDocument.model_validate(orjson.loads(text))
    except ValidationError as error:
        raise unfit(error, "the body", RequestDocument) from error
    except orjson.JSONDecodeError as error:
        raise Malformed(f"the body is not JSON: {error.msg}") from error
    tensors: dict[str, tuple[TensorMetadata, InputDocument, int, int]] = {}
    start = 0
    for given in document.inputs:
        tensor = model.input(given.name)
        if tensor.name in tensors:
            raise Unfit(f"`{tensor.name}` came twice")
        size = given.parameters.get("binary_data_size")
        if (size is None) == (given.data is None):
            raise Unfit(f"`{tensor.name}` must have either data or a binary_data_size, and not both")
        if size is not None and (type(size) is not int or size < 0):
            raise Unfit(f"the binary_data_size of `{tensor.name}` is no number of bytes that follow the JSON")
        tensor.check(given.datatype, given.shape, max_json_inputs if size is None else model.max_rows)
        tensors[tensor.name] = (tensor, given, start, start + (size or 0))
        start += size or 0
    outputs = document.outputs or []
    request = WireRequest(
        {},
        document.parameters,
        tuple(output.name for output in outputs),
        document.id,
        _flag(document.parameters, "binary_data_output"),
        {output.name: _is_binary(output) for output in outputs if output.parameters},
    )
    return _Layout(request, tuple(tensors.values()), start, lists)


def _is_binary(output: OutputDocument) -> bool:
    if output.parameters.keys() - {"binary_data", CONTENT_TYPE}:
        raise Unfit(
            "an output has the parameter `binary_data` alone; neither classification nor shared memory is "
            "offered here"
        )
    return _flag(output.parameters, "binary_data")


def _flag(parameters: Parameters, name: str) -> bool:
    value = parameters.get(name, False)
    if not isinstance(value, bool):
        raise Unfit(f"the parameter `{name}` is true or false")
    return value


def bytes_written_from(request: WireRequest, answer: InferenceAnswer) -> int:
    """Return the bytes of the arrays that are written as JSON: they are in memory until that is sent."""
    return sum(array.nbytes for tensor, array in answer.tensors if not request.is_binary(tensor.name))


async def written(
    model: InferenceModel, request: WireRequest, answer: InferenceAnswer, settings: Settings
) -> Answer:
    """Return an answer in the encoding that its request asks for.

    Raises:
        LimitExceeded: more rows than are answered in JSON.
    """
    start: list[Piece] = [model.opening]
    if request.id:
        start += (b',"id":', to_json(request.id))
    if answer.parameters:
        start += (b',"parameters":', to_json(answer.parameters))
    rows = len(answer.tensors[0][1])
    contents: list[Piece] = []
    outputs: list[Iterator[Piece]] = []
    for tensor, array in answer.tensors:
        if request.is_binary(tensor.name):
            contents.append(tensor.to_bytes(array))
            outputs.append(iter((_description(tensor, array.shape, len(contents[-1])), b"}")))
        elif rows > settings.max_json_count:
            raise LimitExceeded(
                f"{rows} rows are more than the {settings.max_json_count} that are answered in JSON; ask "
                "for them as binary data"
            )
        else:
            outputs.append(_in_json(tensor, array))
    pieces = chain(start, _listed(outputs))
    if not contents:
        size = bytes_written_from(request, answer)
        return await Answer.of_text(JSON, pieces, rows=rows, array_bytes=size)
    document = [piece async for piece in in_turns(pieces)]
    headers = ((JSON_LENGTH, b"%d" % sum(map(len, document))),)
    return Answer.of_pieces(BINARY, document + contents, headers=headers, rows=rows)


def _listed(outputs: Iterable[Iterator[Piece]]) -> Iterator[Piece]:
    """Yield the rest of a document: its outputs, at least one."""
    before = b',"outputs":['
    for output in outputs:
        yield before
        yield from output
        before = b","
    yield b"]}"


def _in_json(tensor: TensorMetadata, array: Array) -> Iterator[Piece]:
    """Yield the JSON of an output, its contents flat."""
    yield _description(tensor, array.shape, None) + b',"data":'
    yield from array_pieces(np.ascontiguousarray(array).reshape(-1))
    yield b"}"


@lru_cache(maxsize=256)
def _description(tensor: TensorMetadata, shape: tuple[int, ...], size: int | None) -> bytes:
    """Return an output's JSON without its data; `size` is that of its bytes after the document, if any."""
    fields: dict[str, Any] = {"name": tensor.name, "datatype": tensor.datatype, "shape": list(shape)}
    return to_json(fields | ({} if size is None else {"parameters": {"binary_data_size": size}}))[:-1]
