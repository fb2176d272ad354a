"""Answers: media types, JSON written in pieces, and the body that is sent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson
from numpy.typing import NDArray
from pydantic import BaseModel

from service.api.problems import Headers
from service.numerics.noise import Floats

JSON: Final = "application/json"
NPY: Final = "application/x-npy"
PNG: Final = "image/png"
JPEG: Final = "image/jpeg"
JSON_PIECE_VALUES: Final = 2**16
"""Values of a JSON piece, which takes a millisecond or two to write."""


class Document(BaseModel, use_attribute_docstrings=True):
    """Base of the JSON documents that the OpenAPI page describes field by field."""


@dataclass(slots=True)
class Answer:
    """A body ready to be sent, or a stream of known length, with the headers that the operation adds."""

    media_type: str
    body: bytes | AsyncIterator[bytes]
    length: int
    """Length of the body in bytes."""
    headers: Headers = ()
    rows: int = 0
    anomalies: int = 0
    """Number of rows flagged as anomalies."""
    p_values: Sequence[float] = ()


async def json_in_pieces(fields: Mapping[str, Any], arrays: Mapping[str, Floats | None]) -> bytes:
    """Return JSON of the fields and, after them, of non-empty arrays; other tasks run between the pieces."""
    pieces = [to_json(fields)[:-1]]
    for name, array in arrays.items():
        pieces += (b"," + to_json(name) + b":", *await array_in_pieces(array))
    return b"".join((*pieces, b"}"))


async def array_in_pieces(array: NDArray[Any] | None) -> list[bytes]:
    """Return the JSON of a non-empty array, or null, in pieces; other tasks run between them."""
    if array is None:
        return [b"null"]
    pieces = [b"["]
    rows = max(1, JSON_PIECE_VALUES * len(array) // array.size)
    for first in range(0, len(array), rows):
        if first:
            pieces.append(b",")
            await asyncio.sleep(0)
        pieces.append(to_json(array[first : first + rows])[1:-1])
    pieces.append(b"]")
    return pieces


def to_json(document: Mapping[str, Any] | NDArray[Any] | str) -> bytes:
    """Return JSON of a document, of an array of numbers, or of a string; documents may hold arrays."""
    return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)
