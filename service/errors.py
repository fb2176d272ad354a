"""Every error the service raises on purpose.

    ServiceError
    ├── Malformed              the bytes cannot be read as what they claim to be
    ├── KeyMissing             the request brings no key, and one is needed
    ├── KeyUnknown             the key it brings is none of those that are taken
    ├── NotFound
    │   ├── UnknownRoute       no such path
    │   ├── UnknownModel       no such model
    │   ├── UnknownVersion     the model has no such version
    │   └── OperationNotOffered the version lacks the graphs for it
    ├── MethodNotAllowed       the path exists, the method does not
    ├── NotAcceptable          no offered media type matches `Accept`
    ├── BodyTooLarge           more bytes than the limit
    ├── UnsupportedMedia       a content type or encoding that is not read here
    ├── Unfit                  well-formed, but the values do not fit
    │   └── LimitExceeded      a number over one of the limits
    ├── NotEnabled             the service was started without it
    ├── Overloaded             the queue is full
    ├── Unavailable
    │   ├── Loading            the model is not ready yet
    │   ├── LoadFailed         the model's newest version could not be loaded
    │   └── Draining           the service is shutting down
    ├── DeadlineExceeded       the request's time is up
    ├── EngineFailed           the computation went wrong; not the client's fault
    ├── InvalidVersion         a published version is damaged or breaks the contract
    ├── InvalidKeys            the file of keys cannot be read
    ├── InvalidAliases         the names given to versions cannot be read or written
    ├── SourceUnavailable      where versions are fetched from cannot be read
    └── ProviderUnavailable    the execution provider asked for is not there

Each class owns a stable `code`. None knows HTTP: `service.api.problems` alone translates.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class Flaw:
    """One thing wrong with a request: where (a JSON pointer), which input row, and what."""

    pointer: str
    message: str
    row: int | None = None


class ServiceError(Exception):
    """Base of the tree; `detail` is written for the client and never holds its input."""

    code: ClassVar[str] = "internal_error"
    title: ClassVar[str] = "The service failed"

    def __init__(self, detail: str, *, flaws: tuple[Flaw, ...] = ()) -> None:
        super().__init__(detail)
        self.detail = detail
        self.flaws = flaws


class Malformed(ServiceError):
    """The body cannot be read as the media type it claims to be."""

    code = "malformed"
    title = "The request cannot be read"


class KeyMissing(ServiceError):
    """The request brings no key, and the service was started to ask for one."""

    code = "key_missing"
    title = "A key is needed"


class KeyUnknown(ServiceError):
    """The key that the request brings is none of those that are taken."""

    code = "key_unknown"
    title = "The key is not taken"


class NotFound(ServiceError):
    """Something named in the path does not exist."""

    code = "not_found"
    title = "Not found"


class UnknownRoute(NotFound):
    """No such path."""

    code = "unknown_route"
    title = "No such path"


class UnknownModel(NotFound):
    """No model of that name."""

    code = "unknown_model"
    title = "No such model"


class UnknownVersion(NotFound):
    """The model exists, that version does not."""

    code = "unknown_version"
    title = "No such version"


class OperationNotOffered(NotFound):
    """The model version lacks the graphs the operation needs."""

    code = "operation_not_offered"
    title = "The model does not offer this operation"

    def __init__(self, detail: str, *, offered: tuple[str, ...]) -> None:
        super().__init__(detail)
        self.offered = offered


class MethodNotAllowed(ServiceError):
    """The path exists for other methods."""

    code = "method_not_allowed"
    title = "Method not allowed"

    def __init__(self, detail: str, *, allowed: tuple[str, ...]) -> None:
        super().__init__(detail)
        self.allowed = allowed


class NotAcceptable(ServiceError):
    """None of the media types in `Accept` can be produced."""

    code = "not_acceptable"
    title = "No acceptable media type"


class BodyTooLarge(ServiceError):
    """The body has more bytes than the limit."""

    code = "body_too_large"
    title = "The body is too large"


class UnsupportedMedia(ServiceError):
    """A content type or encoding that this path does not read."""

    code = "unsupported_media_type"
    title = "Unsupported media type"


class Unfit(ServiceError):
    """Well-formed, but the values do not fit the model or the API."""

    code = "unfit"
    title = "The request does not fit"


class LimitExceeded(Unfit):
    """A number over one of the service's limits."""

    code = "limit_exceeded"
    title = "Over a limit"


class NotEnabled(ServiceError):
    """Something that the service can do, but was not started to do."""

    code = "not_enabled"
    title = "Not enabled here"


class Overloaded(ServiceError):
    """The queue is full; nothing was queued."""

    code = "overloaded"
    title = "Too many rows are waiting"

    def __init__(self, detail: str, *, retry_after_seconds: int = 1) -> None:
        super().__init__(detail)
        self.retry_after_seconds = retry_after_seconds


class Unavailable(ServiceError):
    """Not now, but later."""

    code = "unavailable"
    title = "Not available now"

    def __init__(self, detail: str, *, retry_after_seconds: int = 1) -> None:
        super().__init__(detail)
        self.retry_after_seconds = retry_after_seconds


class Loading(Unavailable):
    """The model is being loaded."""

    code = "loading"


class LoadFailed(Unavailable):
    """The version is there but could not be loaded; the log and `/v1/models` say why."""

    code = "load_failed"

    def __init__(self, detail: str) -> None:
        super().__init__(detail, retry_after_seconds=60)


class Draining(Unavailable):
    """The service is shutting down."""

    code = "draining"


class DeadlineExceeded(ServiceError):
    """The request's time was up before its answer was ready."""

    code = "deadline_exceeded"
    title = "The deadline has passed"


class EngineFailed(ServiceError):
    """The computation went wrong; the log holds the cause, the client does not see it."""

    code = "engine_failed"
    title = "The computation failed"


class InvalidVersion(ServiceError):
    """A published version is damaged, incomplete or breaks the contract."""

    code = "invalid_version"
    title = "The published version is invalid"


class InvalidKeys(ServiceError):
    """The file of keys cannot be read, or is none."""

    code = "invalid_keys"
    title = "The file of keys cannot be read"


class InvalidAliases(ServiceError):
    """The names given to a model's versions cannot be read, or not be set as asked."""

    code = "invalid_aliases"
    title = "The aliases are invalid"


class SourceUnavailable(ServiceError):
    """Where versions are fetched from cannot be read."""

    code = "source_unavailable"
    title = "The source of models is not available"


class ProviderUnavailable(ServiceError):
    """The execution provider asked for cannot be used on this machine."""

    code = "provider_unavailable"
    title = "The execution provider is not available"


class CannotListen(Exception):
    """The address is taken, or is none of this machine's; the message says so to whoever starts a server."""
