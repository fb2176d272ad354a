"""Bodies that travel as gzip or deflate (which is zlib's format), both ways, and never grow past a limit."""

from __future__ import annotations

import asyncio
import zlib
from typing import Final

from service.errors import BodyTooLarge, Malformed, UnsupportedMedia

_WINDOW_BITS: Final = {"gzip": 31, "deflate": 15}
_BESIDE_THE_LOOP_BYTES: Final = 2**16
"""Larger answers are compressed in a thread; zlib lets go of the interpreter."""
_FASTEST: Final = 1
"""Floats hardly become smaller by more effort."""


async def decompressed(body: bytes, encoding: str, limit: int) -> bytes:
    """A body as it was before its `Content-Encoding`; as it is, if that is empty or `identity`.

    Raises:
        UnsupportedMedia: another encoding.
        Malformed: it is not whole, or not of that encoding.
        BodyTooLarge: it has more than `limit` bytes.
    """
    if encoding in ("", "identity"):
        return body
    if encoding not in _WINDOW_BITS:
        raise UnsupportedMedia("bodies are read as they are, or as gzip or deflate")
    return await asyncio.to_thread(_inflated, body, encoding, limit)  # a small one may become a large one


def _inflated(body: bytes, encoding: str, limit: int) -> bytes:
    inflater = zlib.decompressobj(_WINDOW_BITS[encoding])
    try:
        whole = inflater.decompress(body, limit + 1)
    except zlib.error as error:
        raise Malformed(f"the body is not {encoding}, as its Content-Encoding says") from error
    if len(whole) > limit:
        raise BodyTooLarge(f"such a body has at most {limit} bytes here once it is decompressed")
    if not inflater.eof or inflater.unused_data:
        raise Malformed(f"the body is not one whole stream of {encoding}")
    return whole


def encoding_for(accept_encoding: str) -> str:
    """The encoding of an answer: the one that the client accepts and no other, as Triton's clients ask.

    HTTP libraries accept several of their own accord, and compressing floats takes far longer than sending
    them: such a client gets them as they are, which RFC 9110 always allows.
    """
    wanted = accept_encoding.strip().lower()
    return wanted if wanted in _WINDOW_BITS else ""


async def compressed(body: bytes, encoding: str) -> bytes:
    """The body in one of these encodings."""
    if len(body) <= _BESIDE_THE_LOOP_BYTES:
        return _deflated(body, encoding)
    return await asyncio.to_thread(_deflated, body, encoding)


def _deflated(body: bytes, encoding: str) -> bytes:
    deflater = zlib.compressobj(_FASTEST, wbits=_WINDOW_BITS[encoding])
    return deflater.compress(body) + deflater.flush()
