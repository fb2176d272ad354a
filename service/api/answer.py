"""Answers of `/v1`: media types, JSON written in pieces, and the body that is sent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson
from numpy.typing import NDArray

from service.numerics.noise import Floats

JSON: Final = "application/json"
NPY: Final = "application/x-npy"
PNG: Final = "image/png"
JPEG: Final = "image/jpeg"
JSON_PIECE_VALUES: Final = 2**16
"""Of one piece: a millisecond or two."""
Headers = tuple[tuple[bytes, bytes], ...]


@dataclass(slots=True)
class Answer:
    """A body ready to be sent, or a stream of known length, with the headers the operation adds."""

    media_type: str
    body: bytes | AsyncIterator[bytes]
    length: int
    headers: Headers = ()
    rows: int = 0
    anomalies: int = 0
    p_values: Sequence[float] = ()


async def json_in_pieces(fields: Mapping[str, Any], arrays: Mapping[str, Floats | None]) -> bytes:
    """JSON of the fields and, after them, of arrays of a row or more, by turns with whatever else waits."""
    pieces = [to_json(fields)[:-1]]
    for name, array in arrays.items():
        pieces += (b"," + to_json(name) + b":", *await array_in_pieces(array))
    return b"".join((*pieces, b"}"))


async def array_in_pieces(array: NDArray[Any] | None) -> list[bytes]:
    """Pieces of the JSON of an array of a row or more, or of null, made by turns with whatever else waits."""
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
    """JSON of a document that may hold arrays of numbers, or of one."""
    return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)
