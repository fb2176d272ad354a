"""Errors as gRPC statuses, apart from the messages, which no other program of the protocol may load too."""

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
