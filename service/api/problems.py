"""Error answers: `application/problem+json` (RFC 9457), and the form of the Open Inference Protocol."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, TypeAlias

import orjson
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from service import errors
from service.errors import MOST_FLAWS, Flaw, ServiceError

CONTENT_TYPE = b"application/problem+json"
STATUS: dict[type[ServiceError], int] = {
    errors.Malformed: 400,
    errors.KeyMissing: 401,
    errors.KeyUnknown: 403,
    errors.ScopeMissing: 403,
    errors.NotEnabled: 403,
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
"""The HTTP status of each class of error; a subclass has that of its nearest ancestor."""

REJECTION_REASONS: dict[type[ServiceError], str] = {
    errors.Overloaded: "queue_full",
    errors.DeadlineExceeded: "deadline",
    errors.BodyTooLarge: "body",
    errors.Draining: "draining",
    errors.Busy: "busy",
}
_ROWS = (("inputs",), ("latents",))
"""Fields of a request that hold rows."""

Headers: TypeAlias = Sequence[tuple[bytes, bytes]]

log = logging.getLogger(__name__)


def status_of(error: ServiceError) -> int:
    """Return the HTTP status of an error."""
    return next(STATUS[ancestor] for ancestor in type(error).__mro__ if ancestor in STATUS)


def rejection_of(error: Exception) -> str:
    """Return the label under which the metrics count a refused request; empty for any other failure."""
    return next((reason for kind, reason in REJECTION_REASONS.items() if isinstance(error, kind)), "")


def problem(error: Exception, request_id: str) -> tuple[int, Headers, bytes]:
    """Return the status, headers and body of the answer to an error.

    Anything but a `ServiceError` is logged with its trace and answered as a bare 500, without its text.
    """
    error = client_error(error, request_id)
    status = status_of(error)
    document = _document(status, error.code, error.title, error.detail, request_id)
    if error.flaws:
        document["errors"] = [
            {"pointer": flaw.pointer, "row": flaw.row, "message": flaw.message} for flaw in error.flaws
        ]
    if isinstance(error, errors.OperationNotOffered):
        document["offered"] = list(error.offered)
    return status, _headers(error, CONTENT_TYPE), orjson.dumps(document)


def open_inference_error(error: Exception, request_id: str) -> tuple[int, Headers, bytes]:
    """Return the same for the Open Inference Protocol, whose clients read only `{"error": "..."}`."""
    error = client_error(error, request_id)
    body = orjson.dumps({"error": sentence(error)})
    return status_of(error), _headers(error, b"application/json"), body


def sentence(error: ServiceError) -> str:
    """Return an error in one sentence, with the rows that it names."""
    rows = sorted({flaw.row for flaw in error.flaws if flaw.row is not None})
    return f"{error.detail} (rows {', '.join(map(str, rows))})" if rows else error.detail


def client_error(error: Exception, request_id: str) -> ServiceError:
    """Return the error that the client gets; anything but a ServiceError is logged and replaced."""
    if isinstance(error, ServiceError):
        return error
    if isinstance(error, MemoryError):
        log.error("request %s failed for want of memory", request_id, extra={"request_id": request_id})
        return errors.OutOfMemory("there is no memory for this request now; try again")
    log.error("request %s failed", request_id, exc_info=error, extra={"request_id": request_id})
    return ServiceError("the service failed on this request; its log holds the cause")


def _headers(error: ServiceError, content_type: bytes) -> Headers:
    headers = [(b"content-type", content_type), (b"cache-control", b"no-store")]
    if isinstance(error, errors.MethodNotAllowed):
        head = ("HEAD",) if "GET" in error.allowed else ()
        headers.append((b"allow", ", ".join((*error.allowed, *head)).encode()))
    if isinstance(error, errors.KeyMissing):
        headers.append((b"www-authenticate", b"Bearer"))
    if isinstance(error, errors.Overloaded | errors.Unavailable):
        headers.append((b"retry-after", str(error.retry_after_seconds).encode()))
    return headers


def raw_problem(status: int, code: str, detail: str) -> bytes:
    """Return a whole HTTP answer to bytes that are not a request; it closes the connection."""
    title, request_id = HTTPStatus(status).phrase, secrets.token_hex(16)
    # clients of the Open Inference Protocol read `error`; the path of the request is not known here
    body = orjson.dumps(_document(status, code, title, detail, request_id) | {"error": detail})
    head = (
        f"HTTP/1.1 {status} {title}\r\ncontent-type: application/problem+json\r\n"
        f"content-length: {len(body)}\r\nx-request-id: {request_id}\r\nconnection: close\r\n\r\n"
    )
    return head.encode() + body


def _document(status: int, code: str, title: str, detail: str, request_id: str) -> dict[str, Any]:
    return {
        "type": f"urn:pushforward:problem:{code}",
        "title": title,
        "status": status,
        "detail": detail,
        "code": code,
        "request_id": request_id,
    }


def unfit(error: ValidationError, where: str, model: type[BaseModel]) -> ServiceError:
    """Return pydantic's findings as an error, without the input: 400 for invalid JSON, else 422 with flaws.

    An unknown key is input too, so the error does not repeat it but names the known keys.
    """
    found = error.errors(include_url=False, include_input=False, include_context=False)
    first = found[0]
    if first["type"] == "json_invalid":
        return errors.Malformed(f"the body is not JSON: {first['msg'].removeprefix('Invalid JSON: ')}")
    if first["type"] == "too_long" and first["loc"] in _ROWS:
        return errors.LimitExceeded(
            f"`{first['loc'][0]}` has more rows than are taken in JSON; send more as application/x-npy"
        )
    flaws = tuple(_flaw(each, model) for each in found[:MOST_FLAWS])
    text = f"{flaws[0].pointer.strip('/')}: {flaws[0].message}".removeprefix(": ")
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    return errors.Unfit(f"{where} does not fit: {text}{more}", flaws=flaws)


def _flaw(found: ErrorDetails, model: type[BaseModel]) -> Flaw:
    place, message = found["loc"], found["msg"].removeprefix("Value error, ")
    if found["type"] == "extra_forbidden":
        place, message = place[:-1], "unknown key"
        if not place:
            names = (field.alias or name for name, field in model.model_fields.items())
            message += f"; there are: {', '.join(names)}"
    elif found["type"] == "none_required":
        message = "give rows in one form: as inputs, or as records"
    is_row = place[:1] in _ROWS and len(place) > 1 and isinstance(place[1], int)
    return Flaw("".join(f"/{part}" for part in place), message, int(place[1]) if is_row else None)
