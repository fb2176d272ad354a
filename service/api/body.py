"""Request bodies: the bytes in flight, content encodings, query strings, and where a body is parsed."""

from __future__ import annotations

import asyncio
import re
import zlib
from collections.abc import Callable, Iterable
from typing import Final, Self, TypeVar
from urllib.parse import parse_qsl

from pydantic import BaseModel

from service.errors import BodyTooLarge, Busy, Flaw, Malformed, Unfit, UnsupportedMedia

Parsed = TypeVar("Parsed")

ENVELOPE_BYTES: Final = 2**16
"""Room for everything in a body but its numbers."""
JSON_BYTES_PER_VALUE: Final = 32
PICTURE_BYTES_PER_VALUE: Final = 8
"""Room for each value of a picture, which is compressed, beside the envelope."""
_MOST_QUERY_KEYS: Final = 64
SHORT_BYTES: Final = 2**18
"""Longer bodies are read in a thread."""
WINDOW_BITS: Final = {"gzip": 31, "deflate": 15}
"""The codings of bodies and answers, and zlib's name for each."""
_TOKEN: Final = re.compile("[a-z0-9-]{1,40}")
_MOST_INFLATED_BYTES: Final = 2**22
_MOST_INFLATION: Final = 64
"""Most bytes of a decompressed body, or this many times its length if that is more."""


class ByteBudget:
    """The bytes that all requests and answers in flight may hold together."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.used = 0

    def take(self, size: int, own: int) -> None:
        """Take bytes for a request that holds `own` already; give them back by subtracting from `used`.

        Raises:
            Busy: the bytes are spent, and not by that request alone.
        """
        if self.used + size > self._limit and self.used > own:
            raise Busy("requests and answers in flight hold as many bytes as they may; try again")
        self.used += size


class Held:
    """The bytes of a budget that one request holds while its block runs."""

    def __init__(self, budget: ByteBudget) -> None:
        self._budget = budget
        self._bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._budget.used -= self._bytes

    def take(self, size: int) -> None:
        """Hold more bytes. Raises Busy if the budget is spent, and not by this request alone."""
        self._budget.take(size, self._bytes)
        self._bytes += size


async def decompressed(body: bytes, encoding: str, limit: int) -> bytes:
    """Return a body as it was before its `Content-Encoding`; as it is, if that is empty or `identity`.

    Raises:
        UnsupportedMedia: another encoding.
        Malformed: it is not whole, or not of that encoding.
        BodyTooLarge: it has more than `limit` bytes.
    """
    if encoding in ("", "identity"):
        return body
    if encoding not in WINDOW_BITS:
        came = encoding if _TOKEN.fullmatch(encoding) else "another coding"
        raise UnsupportedMedia(f"bodies are read as they are, or as gzip or deflate; {came} came")
    return await asyncio.to_thread(_inflated, body, encoding, limit)  # a small one may become a large one


def _inflated(body: bytes, encoding: str, limit: int) -> bytes:
    inflater = zlib.decompressobj(WINDOW_BITS[encoding])
    limit = min(limit, inflated_bytes(len(body)))
    try:
        whole = inflater.decompress(body, limit + 1)
    except zlib.error as error:
        raise Malformed(f"the body is not {encoding}, as its Content-Encoding says") from error
    if len(whole) > limit:
        raise BodyTooLarge(f"the body has over {limit} bytes once it is decompressed; send less at a time")
    if not inflater.eof or inflater.unused_data:
        raise Malformed(f"the body is not one whole stream of {encoding}")
    return whole


def inflated_bytes(size: int) -> int:
    """Return the most bytes that so many bytes may become, wherever something in a body is compressed."""
    return max(_MOST_INFLATED_BYTES, _MOST_INFLATION * size)


def query_pairs(query: bytes) -> list[tuple[str, str]]:
    """Return the keys and values of a query string, in its order.

    Raises:
        Malformed: it cannot be decoded, or has too many keys.
    """
    try:
        return parse_qsl(query.decode(), keep_blank_values=True, max_num_fields=_MOST_QUERY_KEYS)
    except ValueError as error:
        raise Malformed("the query string cannot be read") from error


def check_numbers(pairs: Iterable[tuple[str, str]], options: BaseModel) -> None:
    """Raise Unfit if a number of a query is written with an underscore, as Python and pydantic permit."""
    for name, text in pairs:
        if "_" in text and isinstance(getattr(options, name, None), int | float):
            message = "wanted a number without underscores"
            raise Unfit(f"the query does not fit: {name}: {message}", flaws=(Flaw(f"/{name}", message),))


async def read_body(body: bytes, read: Callable[[], Parsed], short: int = SHORT_BYTES) -> Parsed:
    """Return the result of `read`, which parses a body: at once if it has `short` bytes, else in a thread."""
    return await asyncio.to_thread(read) if len(body) > short else read()
