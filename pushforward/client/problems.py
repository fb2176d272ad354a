"""Answers that are problems, as the service's own errors."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

from pushforward.client.wire import HttpAnswer
from service import errors
from service.errors import Flaw, ServiceError


def _family(kind: type[ServiceError]) -> Iterator[type[ServiceError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from _family(child)


_BY_CODE: Final = {kind.code: kind for kind in _family(ServiceError)}
_BY_STATUS: Final = {
    400: errors.Malformed,
    401: errors.KeyMissing,
    403: errors.KeyUnknown,
    404: errors.UnknownRoute,
    413: errors.BodyTooLarge,
    415: errors.UnsupportedMedia,
    422: errors.Unfit,
    429: errors.Overloaded,
    502: errors.Unavailable,
    503: errors.Unavailable,
    504: errors.DeadlineExceeded,
}
"""The errors of answers without a known code: of a proxy, mostly."""


def problem_of(answer: HttpAnswer, url: str) -> ServiceError:
    """Return the error that an answer stands for: by its `code`, or by its status if it has none.

    The error has the problem's flaws, and what else its class has; a note has the request's id.
    """
    document = _document(answer)
    code, detail = document.get("code"), document.get("detail")
    kind = _BY_CODE.get(code) if isinstance(code, str) else None
    kind = kind or _BY_STATUS.get(answer.status, ServiceError)
    if not isinstance(detail, str):
        place = answer.headers.get("location")
        detail = (
            f"{url} answered with status {answer.status}{f' and the address {place}' if place else ''}, "
            "and not in the words of Pushforward; check the address, and any proxy on the way"
        )
    error = _made(kind, detail, answer, document)
    listed = document.get("errors")
    error.flaws = tuple(
        Flaw(flaw.get("pointer", ""), flaw.get("message", ""), flaw.get("row"))
        for flaw in (listed if isinstance(listed, list) else ())
        if isinstance(flaw, dict)  # else it is an error of something else on the way
    )
    if request_id := answer.headers.get("x-request-id"):
        error.add_note(f"request {request_id} to {url}")
    return error


def _made(
    kind: type[ServiceError], detail: str, answer: HttpAnswer, document: dict[str, Any]
) -> ServiceError:
    if issubclass(kind, errors.OperationNotOffered):
        return kind(detail, offered=tuple(document.get("offered", ())))
    if issubclass(kind, errors.MethodNotAllowed):
        allowed = answer.headers.get("allow", "").split(",")
        return kind(detail, allowed=tuple(method.strip() for method in allowed))
    error, wait = kind(detail), answer.headers.get("retry-after", "")
    if isinstance(error, errors.Overloaded | errors.Unavailable) and wait.isdecimal():  # a date is not read
        error.retry_after_seconds = int(wait)
    return error


def _document(answer: HttpAnswer) -> dict[str, Any]:
    try:
        document = json.loads(answer.body)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}
