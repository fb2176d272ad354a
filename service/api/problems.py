"""The one border where errors become HTTP: `application/problem+json` (RFC 9457)."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

import orjson
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from service import errors
from service.errors import Flaw, ServiceError

CONTENT_TYPE = b"application/problem+json"
STATUS: dict[type[ServiceError], int] = {
    errors.Malformed: 400,
    errors.NotFound: 404,
    errors.MethodNotAllowed: 405,
    errors.NotAcceptable: 406,
    errors.BodyTooLarge: 413,
    errors.UnsupportedMedia: 415,
    errors.Unfit: 422,
    errors.Overloaded: 429,
    errors.EngineFailed: 500,
    errors.InvalidVersion: 500,
    errors.ProviderUnavailable: 500,
    errors.Unavailable: 503,
    errors.DeadlineExceeded: 504,
    ServiceError: 500,
}
"""The status of each class of error; a subclass has its nearest ancestor's."""

REJECTION_REASONS: dict[type[ServiceError], str] = {
    errors.Overloaded: "queue_full",
    errors.DeadlineExceeded: "deadline",
    errors.BodyTooLarge: "body",
    errors.Draining: "draining",
}
_MOST_FLAWS = 16

Headers = list[tuple[bytes, bytes]]

log = logging.getLogger(__name__)


def status_of(error: ServiceError) -> int:
    """The HTTP status of an error."""
    return next(STATUS[ancestor] for ancestor in type(error).__mro__ if ancestor in STATUS)


def problem(error: Exception, request_id: str) -> tuple[int, Headers, bytes]:
    """Status, headers and body of the answer to an error.

    Whatever is not a `ServiceError` is logged with its trace and answered as a bare 500: no text of
    it leaves the service.
    """
    if not isinstance(error, ServiceError):
        log.error("request %s failed", request_id, exc_info=error)
        error = ServiceError("the service failed on this request; its log holds the cause")
    status = status_of(error)
    document: dict[str, Any] = {
        "type": f"urn:pushforward:problem:{error.code}",
        "title": error.title,
        "status": status,
        "detail": error.detail,
        "code": error.code,
        "request_id": request_id,
    }
    headers = [(b"content-type", CONTENT_TYPE)]
    if error.flaws:
        document["errors"] = [
            {"pointer": flaw.pointer, "message": flaw.message}
            | ({} if flaw.row is None else {"row": flaw.row})
            for flaw in error.flaws
        ]
    if isinstance(error, errors.OperationNotOffered):
        document["offered"] = list(error.offered)
    if isinstance(error, errors.MethodNotAllowed):
        headers.append((b"allow", ", ".join(error.allowed).encode()))
    if isinstance(error, errors.Overloaded | errors.Unavailable):
        headers.append((b"retry-after", str(error.retry_after_seconds).encode()))
    if isinstance(error, errors.BodyTooLarge):
        headers.append((b"connection", b"close"))  # the rest of the body is not read
    return status, headers, orjson.dumps(document)


def unfit(error: ValidationError, where: str, keys: Iterable[str]) -> ServiceError:
    """What pydantic found, without the input: 400 if the text is no JSON, else 422 with each flaw.

    An unknown key is the client's text too, so it is not repeated; the known ones are named.
    """
    found = error.errors(include_url=False, include_input=False, include_context=False)
    if found[0]["type"] == "json_invalid":
        return errors.Malformed(f"the body is not JSON: {found[0]['msg'].removeprefix('Invalid JSON: ')}")
    flaws = tuple(_flaw(each, keys) for each in found[:_MOST_FLAWS])
    first = f"{flaws[0].pointer.strip('/')}: {flaws[0].message}".removeprefix(": ")
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    return errors.Unfit(f"{where} does not fit: {first}{more}", flaws=flaws)


def _flaw(found: ErrorDetails, keys: Iterable[str]) -> Flaw:
    place, message = found["loc"], found["msg"]
    if found["type"] == "extra_forbidden":
        place = place[:-1]
        message = "unknown key" if place else f"unknown key; there are: {', '.join(keys)}"
    row = next((part for part in place if isinstance(part, int)), None)
    return Flaw("".join(f"/{part}" for part in place), message, row)
