"""Bounds on request bodies that hold before objects are made of their bytes."""

from __future__ import annotations

import asyncio
import itertools
import math
import operator
import re
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from service.errors import LimitExceeded

Parsed = TypeVar("Parsed")

ENVELOPE_BYTES: Final = 2**16
"""Room for everything in a body but its numbers."""
_READ_ON_LOOP_BYTES: Final = 2**18
"""Longer bodies are read in a thread."""
_BESIDE_NUMBERS: Final = 2**10
"""Most lists, objects, commas or strings in a JSON text beside those of its rows; most bytes of a string."""
_STRING: Final = re.compile(rb'"(?:[^"\\]|\\.){0,%d}+"' % _BESIDE_NUMBERS, re.DOTALL)


async def read_body(body: bytes, read: Callable[[], Parsed]) -> Parsed:
    """Return the result of `read`, which parses a body: at once if it is short, else in a thread."""
    return await asyncio.to_thread(read) if len(body) > _READ_ON_LOOP_BYTES else read()


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
    fits = all(text.count(sign) <= count + _BESIDE_NUMBERS for sign, count in most.items())
    strings, place = 0, text.find(b'"')
    while fits and place >= 0:
        string, strings = _STRING.match(text, place), strings + 1
        fits = string is not None and strings <= _BESIDE_NUMBERS
        place = text.find(b'"', string.end()) if string is not None else -1
    if not fits:
        raise LimitExceeded(
            f"the JSON holds more than {rows} rows of this model; send fewer, or send them as bytes"
        )
