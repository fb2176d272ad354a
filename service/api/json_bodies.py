"""Bounds on JSON that are checked before it is parsed, and long lists, which are read in pieces."""

from __future__ import annotations

import codecs
import itertools
import math
import operator
import re
import secrets
from collections.abc import Sequence, Set
from typing import Any, Final

import numpy as np
import orjson
from numpy.typing import NDArray

from service.api.body import ENVELOPE_BYTES
from service.errors import Flaw, LimitExceeded, Malformed, Unfit

_BESIDE_NUMBERS: Final = 2**10
"""Most lists, objects, commas or strings in a JSON text beside those of its rows; most bytes of a string."""
_STRING: Final = re.compile(rb'"(?:[^"\\]|\\.){0,%d}+"' % _BESIDE_NUMBERS, re.DOTALL)
_RECORDS: Final = re.compile(rb'"records"\s*+:\s*+\[')
_RECORD: Final = re.compile(rb'\s*+(\{(?:[^"{}\[\]]++|"(?:[^"\\]++|\\.)*+")*+\})\s*+([,\]])', re.DOTALL)
_END_OF_LIST: Final = re.compile(rb"\s*+\]")
_TEXT: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+"', re.DOTALL)
_PIECE_BYTES: Final = 2**17
"""Longest part of a JSON text that is read while no other thread runs; it takes a millisecond or two."""
_LONGEST_RECORD: Final = 2**17
_LONG_LIST_BYTES: Final = 2**16
_NO_SIGNS: Final = bytes(set(range(256)) - set(b"[],"))
_NO_BRACKETS: Final = bytes.maketrans(b"[]", b"  ")


def json_text(body: bytes) -> bytes:
    """Return a body of JSON without the mark of UTF-8 that some programs put before it.

    Raises:
        Malformed: it has the mark of UTF-16.
    """
    if body.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise Malformed("the body is text in UTF-16; JSON is read as UTF-8 only")
    return body.removeprefix(codecs.BOM_UTF8)


def check_json(text: bytes, rows: int, row: Sequence[int]) -> None:
    """Refuse a JSON text that holds more than so many rows of a shape, before objects are made of it.

    An empty list or object has two bytes in a text, and a hundred times as many once it is parsed.

    Raises:
        LimitExceeded: it holds more lists, objects, numbers or strings.
    """
    if len(text) <= ENVELOPE_BYTES:
        return
    lists = rows * sum(itertools.accumulate(row[:-1], operator.mul, initial=1))
    most = {b"[": lists, b"{": 0, b",": rows * math.prod(row)}
    starts = range(0, len(text), _PIECE_BYTES)
    fits = all(
        sum(text.count(sign, start, start + _PIECE_BYTES) for start in starts) <= count + _BESIDE_NUMBERS
        for sign, count in most.items()
    )
    strings, place = 0, text.find(b'"')
    while fits and place >= 0:
        string, strings = _STRING.match(text, place), strings + 1
        fits = string is not None and strings <= _BESIDE_NUMBERS
        place = text.find(b'"', string.end()) if string is not None else -1
    if not fits:
        raise LimitExceeded(
            f"the JSON holds more than {rows} rows of this model; send fewer, or send them as bytes"
        )


def cut_lists(text: bytes) -> tuple[bytes, dict[str, bytes]]:
    """Cut long lists of numbers out of a JSON text that `check_json` has passed, to be read piece by piece.

    Returns:
        The text, with a list of one string in the place of each, and the lists by those strings.
    """
    if len(text) <= _LONG_LIST_BYTES:
        return text, {}
    pieces: list[bytes] = []
    lists: dict[str, bytes] = {}
    place, token = 0, secrets.token_hex(8)
    quote = 0
    while quote >= 0:
        following = text.find(b'"', quote)  # no string is as long as what is cut, so none is cut in two
        end = len(text) if following < 0 else following
        if end - quote > _LONG_LIST_BYTES:
            closing = text.find(b"}", quote, end)
            first = text.find(b"[", quote, end)
            last = text.rfind(b"]", quote, end if closing < 0 else closing) + 1
            if 0 <= first < last - _LONG_LIST_BYTES:
                mark = f"{token}-{len(lists)}"
                pieces += (text[place:first], b'["%b"]' % mark.encode())
                lists[mark], place = text[first:last], last
        quote = following + 1 if following >= 0 else -1
    return b"".join((*pieces, text[place:])), lists


def cut_records(text: bytes, rows: int, cells: int) -> tuple[bytes, str, list[bytes]]:
    """Cut the list of records out of a JSON text, to be read piece by piece.

    A record is an object of plain values. Nothing is made of any before all of them have been counted.

    Returns:
        The text, with a list of one string in the place of the list; that string, empty if the text has no
        records; and the list in pieces, each a list of some records.

    Raises:
        LimitExceeded: there are more than `rows`, or one has more than `cells` values.
        Malformed, Unfit: one is no such object.
    """
    start = _RECORDS.search(text)
    if start is None:
        return text, "", []
    place, count, end = start.end(), 0, b"," if not _END_OF_LIST.match(text, start.end()) else b"]"
    if end == b"]":
        raise Unfit("`records` is empty; give it at least one")
    pieces, first = list[bytes](), place
    while end == b",":
        record = _RECORD.match(text, place, place + _LONGEST_RECORD)
        if record is None:
            if len(text) <= ENVELOPE_BYTES:
                check_whole(text)
            raise Unfit(
                f"record {count} is no object of numbers, texts, true, false and null, by column, in at most "
                f"{_LONGEST_RECORD} bytes",
                flaws=(Flaw(f"/records/{count}", "wanted an object of plain values", count),),
            )
        if count == rows:
            raise LimitExceeded(f"more than {rows} records came; send more as text/csv, or several requests")
        if record[1].count(b",") >= cells and _TEXT.sub(b"", record[1]).count(b",") >= cells:
            raise LimitExceeded(
                f"record {count} has more than {cells} values, which the model's table does not have",
                flaws=(Flaw(f"/records/{count}", f"at most {cells} values are taken", count),),
            )
        place, end, count = record.end(), record[2], count + 1
        if place - first > _PIECE_BYTES or end == b"]":
            pieces.append(b"[%b]" % text[first : record.end(1)])
            first = place
    mark = secrets.token_hex(8)
    return b"".join((text[: start.end()], b'"%b"]' % mark.encode(), text[place:])), mark, pieces


def check_whole(text: bytes) -> None:
    """Raise Malformed unless a text is JSON; it is short."""
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise Malformed(f"the body is not JSON: {error.msg}") from error


def read_list(
    text: bytes, row: Sequence[int], dtype: np.dtype[Any], types: Set[type], name: str, *, flat: bool
) -> NDArray[Any]:
    """Read a list of numbers, nested as rows of a shape, as a flat array; other threads run meanwhile.

    `types` are the Python types that numbers of the dtype may have; `name` is that of the field. If `flat`,
    the list need not be nested.

    Raises:
        Malformed: it is not JSON.
        Unfit: it is not nested as the shape, or holds other values.
    """
    signs, arrays, start = [], [], 0
    while start < len(text):
        end = start + _PIECE_BYTES if len(text) - start > _PIECE_BYTES else len(text)
        comma = text.rfind(b",", start, end) if end < len(text) else len(text)
        if comma < 0:
            raise Malformed("the body is not JSON: a number is too long")
        piece = text[start:comma]
        signs.append(piece.translate(None, _NO_SIGNS))
        try:
            values = orjson.loads(b"[%b]" % piece.translate(_NO_BRACKETS))
            if not set(map(type, values)) <= types:
                raise Unfit(f"`{name}` does not hold numbers alone, of its type and shape")
            with np.errstate(over="ignore"):  # values that overflow float32 are refused later
                arrays.append(np.array(values, dtype))
        except orjson.JSONDecodeError as error:
            raise Malformed(f"the body is not JSON: {error.msg}") from error
        except OverflowError as error:
            raise Unfit(f"`{name}` holds numbers that do not fit its datatype") from error
        start = comma + 1
    _check_nesting(b",".join(signs), row, sum(map(len, arrays)), name, flat=flat)
    return np.concatenate(arrays)


def _check_nesting(signs: bytes, row: Sequence[int], values: int, name: str, *, flat: bool) -> None:
    """Raise Unfit unless the brackets and commas of a list are those of so many numbers in rows, or flat."""
    nested = b""
    for size in reversed(row):
        nested = b"[%b]" % b",".join([nested] * size)
    if signs == b"[%b]" % b",".join([nested] * (values // math.prod(row))):
        return
    if not flat or signs != b"[%b]" % (b"," * (values - 1)):
        shape = ", ".join(("rows", *map(str, row)))
        raise Unfit(f"`{name}` is ragged, or not of the shape [{shape}]")
