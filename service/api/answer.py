"""Answers: media types, JSON written in pieces, and the body that is sent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, TypeAlias

import orjson
from numpy.typing import NDArray
from pydantic import BaseModel

from service.api.problems import Headers
from service.media.tables.writing import Column, csv_text
from service.numerics.noise import Floats

JSON: Final = "application/json"
NPY: Final = "application/x-npy"
PNG: Final = "image/png"
JPEG: Final = "image/jpeg"
PICTURES: Final = (PNG, JPEG, "image/webp", "image/tiff", "image/bmp")
"""The media types of pictures in requests."""
FORM: Final = "multipart/form-data"
ZIP: Final = "application/zip"
CSV: Final = "text/csv"
PARQUET: Final = "application/vnd.apache.parquet"
JSON_PIECE_VALUES: Final = 2**16
"""Values of a JSON piece, which takes a millisecond or two to write."""
_NAMED_PIECE_VALUES: Final = 2**11
"""Values of a piece of records or CSV, which are written one by one."""
PART_BYTES: Final = 2**18
"""Size of the parts in which answers are sent; a client that reads none within `idle_seconds` is dropped."""
JSON_BYTES_PER_VALUE: Final = 20
"""The approximate number of bytes of a float32 in JSON."""


Piece: TypeAlias = bytes | memoryview


class Document(BaseModel, use_attribute_docstrings=True):
    """Base of the JSON documents that the OpenAPI page describes field by field."""


@dataclass(slots=True)
class Answer:
    """A body ready to be sent, as a whole or in pieces, or a stream of known length, with headers."""

    media_type: str
    body: bytes | list[Piece] | AsyncIterator[bytes]
    length: int
    """Length of the body in bytes."""
    headers: Headers = ()
    rows: int = 0
    anomalies: int = 0
    """Number of rows flagged as anomalies."""
    p_values: Sequence[float] = ()

    @classmethod
    def of_pieces(cls, media_type: str, pieces: list[Piece], **others: Any) -> Answer:
        """Return an answer of pieces, joined if they are small: a copy of many bytes would hold the loop."""
        length = sum(map(len, pieces))
        return cls(media_type, pieces if length > PART_BYTES else b"".join(pieces), length, **others)


async def json_in_pieces(
    fields: Mapping[str, Any],
    arrays: Mapping[str, Floats | None],
    records: Mapping[str, Mapping[str, Column]] = MappingProxyType({}),
) -> list[Piece]:
    """Return the JSON of the fields and, after them, of `records` and of arrays, which are not empty.

    `records` are tables, each of columns (B,) by name, written as one object a row. Other tasks run
    between the pieces.
    """
    pieces: list[Piece] = [to_json(fields)[:-1]]
    for name, table in records.items():
        pieces += (b"," + to_json(name) + b":", *await records_in_pieces(table))
    for name, array in arrays.items():
        pieces += (b"," + to_json(name) + b":", *await array_in_pieces(array))
    return [*pieces, b"}"]


async def records_in_pieces(table: Mapping[str, Column]) -> list[Piece]:
    """Return the JSON of columns (B,) by name as a list of objects, in pieces between which others run."""
    pieces: list[Piece] = [b"["]
    for first, piece in _pieces_of(table):
        if first:
            pieces.append(b",")
            await asyncio.sleep(0)
        rows = zip(*piece.values(), strict=True)
        pieces.append(to_json([dict(zip(table, row, strict=True)) for row in rows])[1:-1])
    pieces.append(b"]")
    return pieces


async def csv_in_pieces(table: Mapping[str, Column]) -> list[Piece]:
    """Return columns (B,) by name as CSV, in pieces between which other tasks run."""
    pieces: list[Piece] = []
    for first, piece in _pieces_of(table):
        if first:
            await asyncio.sleep(0)
        pieces.append(csv_text(piece, with_names=not first).encode())
    return pieces


def _pieces_of(table: Mapping[str, Column]) -> Iterator[tuple[int, Mapping[str, Column]]]:
    """Yield the columns of a non-empty table in pieces of some thousand values, with their first rows."""
    count = len(next(iter(table.values())))
    rows = max(1, _NAMED_PIECE_VALUES // len(table))
    for first in range(0, count, rows):
        yield first, {name: column[first : first + rows] for name, column in table.items()}


async def array_in_pieces(array: NDArray[Any] | None) -> list[Piece]:
    """Return the JSON of a non-empty array, or null, in pieces; other tasks run between them."""
    if array is None:
        return [b"null"]
    pieces: list[Piece] = [b"["]
    rows = max(1, JSON_PIECE_VALUES * len(array) // array.size)
    for first in range(0, len(array), rows):
        if first:
            pieces.append(b",")
            await asyncio.sleep(0)
        pieces.append(to_json(array[first : first + rows])[1:-1])
    pieces.append(b"]")
    return pieces


def to_json(document: Mapping[str, Any] | Sequence[Any] | NDArray[Any] | str) -> bytes:
    """Return JSON of a document, of an array of numbers, or of a string; documents may hold arrays."""
    return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)
