"""Compressed messages of gRPC: they are decompressed here, so that their size is bounded.

gRPC's own decompression would make 32 MB of 33 kB before anything here sees the message.
"""

from __future__ import annotations

from typing import Any, Final

from service.api.body import decompressed

KEEP_COMPRESSED: Final[tuple[str, Any]] = ("grpc.per_message_decompression", 0)
"""The option of a channel by which gRPC decompresses nothing."""
_GZIP: Final = b"\x1f\x8b"
_DEFLATE: Final = 0x78
_DEFLATE_DIVISOR: Final = 31


def encoding_of(body: bytes) -> str:
    """Return the coding of a message by its first bytes, as gRPC does not say; empty if it has none.

    No message of the protocols here begins with these bytes: they are a field of a type that does not exist,
    and a number of field 15, where none has one.
    """
    if body.startswith(_GZIP):
        return "gzip"
    is_deflate = len(body) > 1 and body[0] == _DEFLATE and int.from_bytes(body[:2]) % _DEFLATE_DIVISOR == 0
    return "deflate" if is_deflate else ""


async def whole_message(body: bytes, limit: int) -> bytes:
    """Return a message as it was before it was compressed, at most `limit` bytes of it.

    Raises:
        Malformed: it is compressed and not whole.
        BodyTooLarge: it becomes longer, or much longer than it came.
    """
    return await decompressed(body, encoding_of(body), limit)
