"""Errors as gRPC statuses.

This module does not load the protocol's messages: a process can load them once, and a client of the protocol
in the same process brings its own.
"""

from __future__ import annotations

from typing import Final

import grpc

from service import errors

CODES: Final[dict[type[errors.ServiceError], grpc.StatusCode]] = {
    errors.Malformed: grpc.StatusCode.INVALID_ARGUMENT,
    errors.Unfit: grpc.StatusCode.INVALID_ARGUMENT,
    errors.KeyMissing: grpc.StatusCode.UNAUTHENTICATED,
    errors.KeyUnknown: grpc.StatusCode.PERMISSION_DENIED,
    errors.ScopeMissing: grpc.StatusCode.PERMISSION_DENIED,
    errors.NotEnabled: grpc.StatusCode.PERMISSION_DENIED,
    errors.NotFound: grpc.StatusCode.NOT_FOUND,
    errors.BodyTooLarge: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.Overloaded: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.Unavailable: grpc.StatusCode.UNAVAILABLE,
    errors.DeadlineExceeded: grpc.StatusCode.DEADLINE_EXCEEDED,
    errors.ServiceError: grpc.StatusCode.INTERNAL,
}
"""The gRPC status of each class of error; a subclass has that of its nearest ancestor."""
_MOST_DETAIL_BYTES: Final = 1_500
"""Most bytes of an error's sentence: gRPC sends it among the headers, three times as long at worst, and
clients learn of headers over 8 KiB only that they are too long."""


def shortened(text: str) -> str:
    """Return a text that gRPC can send as the sentence of an error, cut short if it is long."""
    whole = text.encode()
    if len(whole) <= _MOST_DETAIL_BYTES:
        return text
    return whole[:_MOST_DETAIL_BYTES].decode(errors="ignore") + " ..."
