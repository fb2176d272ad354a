"""Answers: media types, JSON written in pieces, and the body that is sent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from types import MappingProxyType
from typing import Any, Final, TypeAlias

import orjson
from numpy.typing import NDArray

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
_LITTLE_BYTES: Final = 2**12
"""A smaller piece is written in less time than a turn of the event loop is worth, even of CSV."""


Piece: TypeAlias = bytes | memoryview


@dataclass(slots=True)
class Answer:
    """A body ready to be sent, as a whole or in pieces, or a stream, with headers."""

    media_type: str
    body: bytes | list[Piece] | AsyncIterator[Piece]
    length: int | None
    """Length of the body in bytes; None if it is written while it is sent."""
    headers: Headers = ()
    rows: int = 0
    anomalies: int = 0
    """Number of rows flagged as anomalies."""
    p_values: Sequence[float] = ()
    array_bytes: int = 0
    """Bytes of the arrays that the body is written from while it is sent."""

    @classmethod
    def of_pieces(cls, media_type: str, pieces: list[Piece], **others: Any) -> Answer:
        """Return an answer of pieces, joined if they are small: a copy of many bytes would hold the loop."""
        length = sum(map(len, pieces))
        return cls(media_type, pieces if length > PART_BYTES else b"".join(pieces), length, **others)

    @classmethod
    async def of_text(cls, media_type: str, pieces: Iterator[Piece], **others: Any) -> Answer:
        """Return an answer of text. What is more than `PART_BYTES` of it is written while it is sent.

        So a large answer never lies in memory as text. Other tasks run between the pieces.
        """
        written: list[Piece] = []
        length = 0
        for piece in pieces:
            written.append(piece)
            length += len(piece)
            if length > PART_BYTES:
                return cls(media_type, in_turns(chain(written, pieces)), None, **others)
            if len(piece) > _LITTLE_BYTES:
                await asyncio.sleep(0)
        return cls(media_type, b"".join(written), length, **others)


async def in_turns(pieces: Iterator[Piece]) -> AsyncIterator[Piece]:
    """Yield pieces; other tasks run between them."""
    for piece in pieces:
        yield piece
        await asyncio.sleep(0)


def json_pieces(
    fields: Mapping[str, Any],
    arrays: Mapping[str, Floats | None],
    records: Mapping[str, Mapping[str, Column]] = MappingProxyType({}),
) -> Iterator[Piece]:
    """Yield the JSON of the fields and, after them, of `records` and of arrays, which are not empty.

    `records` are tables, each of columns (B,) by name, written as one object a row. A piece takes a
    millisecond or two to write.
    """
    yield to_json(fields)[:-1]
    for name, table in records.items():
        yield b"," + to_json(name) + b":"
        yield from _record_pieces(table)
    for name, array in arrays.items():
        yield b"," + to_json(name) + b":"
        yield from array_pieces(array)
    yield b"}"


def _record_pieces(table: Mapping[str, Column]) -> Iterator[Piece]:
    """Yield the JSON of columns (B,) by name as a list of objects."""
    for first, piece in _pieces_of(table):
        rows = zip(*piece.values(), strict=True)
        text = to_json([dict(zip(table, row, strict=True)) for row in rows])
        yield (b"," if first else b"[") + text[1:-1]
    yield b"]"


def csv_pieces(table: Mapping[str, Column]) -> Iterator[Piece]:
    """Yield columns (B,) by name as CSV."""
    for first, piece in _pieces_of(table):
        yield csv_text(piece, with_names=not first).encode()


def _pieces_of(table: Mapping[str, Column]) -> Iterator[tuple[int, Mapping[str, Column]]]:
    """Yield the columns of a non-empty table in pieces of some thousand values, with their first rows."""
    count = len(next(iter(table.values())))
    rows = max(1, _NAMED_PIECE_VALUES // len(table))
    for first in range(0, count, rows):
        yield first, {name: column[first : first + rows] for name, column in table.items()}


def array_pieces(array: NDArray[Any] | None) -> Iterator[Piece]:
    """Yield the JSON of a non-empty array, or null."""
    if array is None:
        yield b"null"
        return
    rows = max(1, JSON_PIECE_VALUES * len(array) // array.size)
    for first in range(0, len(array), rows):
        text = to_json(array[first : first + rows])
        yield (b"," if first else b"[") + text[1:-1]
    yield b"]"


def bytes_of(arrays: Mapping[str, NDArray[Any] | None]) -> int:
    """Return the bytes of arrays by name together."""
    return sum(array.nbytes for array in arrays.values() if array is not None)


def to_json(document: Mapping[str, Any] | Sequence[Any] | NDArray[Any] | str) -> bytes:
    """Return JSON of a document, of an array of numbers, or of a string; documents may hold arrays."""
    return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)
