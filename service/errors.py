"""Every error the service raises on purpose.

    ServiceError
    ├── Malformed              the bytes are not what they claim to be
    ├── KeyMissing             the request has no key, and one is needed
    ├── KeyUnknown             the request's key is not accepted
    ├── ScopeMissing           the request's key does not allow this
    ├── NotFound
    │   ├── UnknownRoute       no such path
    │   ├── UnknownModel       no such model
    │   ├── UnknownVersion     the model has no such version
    │   └── OperationNotOffered the version lacks the graphs for it
    ├── MethodNotAllowed       the path exists, the method does not
    ├── NotAcceptable          no offered media type matches `Accept`
    ├── BodyTooLarge           more bytes than the limit
    ├── UnsupportedMedia       a content type or encoding that is not supported
    ├── Unfit                  well-formed, but the values do not fit
    │   └── LimitExceeded      a number over one of the limits
    ├── NotEnabled             the service was started without this feature
    ├── Overloaded             the queue is full
    ├── Unavailable
    │   ├── Loading            the model is not ready yet
    │   ├── LoadFailed         the model's newest version could not be loaded
    │   ├── Busy               requests hold too many bytes or connections
    │   ├── OutOfMemory        there was no memory for the computation
    │   ├── Draining           the service is shutting down
    │   └── Unreachable        a client gets no answer from the address of the service
    ├── DeadlineExceeded       the request took too long
    ├── EngineFailed           the computation failed; not the client's fault
    │   └── RuntimeFailed      ONNX Runtime raised an error
    ├── InvalidVersion         a published version is damaged or breaks the contract
    │   └── NotLoadedNow       it could not be loaded, for a reason that may pass
    ├── InvalidKeys            the file of keys cannot be read
    ├── InvalidAliases         the aliases of versions cannot be read or written
    ├── SourceUnavailable      the remote source of versions cannot be read
    └── ProviderUnavailable    the requested execution provider is not there

Each class has a stable `code`. None knows HTTP: `service.api.problems` alone translates them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

MOST_FLAWS: Final = 16
"""The largest number of flaws that an error names, the first that were found."""


@dataclass(frozen=True, slots=True)
class Flaw:
    """One thing wrong with a request: its place (a JSON pointer), the input row, and a message."""

    pointer: str
    message: str
    row: int | None = None

    def after(self, rows: int) -> Flaw:
        """Return the flaw of a part's row as one of all rows, so many of which come before the part."""
        if self.row is None:
            return self
        row = self.row + rows
        return Flaw(self.pointer.replace(f"/{self.row}", f"/{row}", 1), self.message, row)


class ServiceError(Exception):
    """Base of the tree; `detail` is written for the client and never repeats its input."""

    code: ClassVar[str] = "internal_error"
    title: ClassVar[str] = "The service failed"

    def __init_subclass__(cls, *, code: str, title: str = "") -> None:
        cls.code = code
        cls.title = title or cls.title

    def __init__(self, detail: str, *, flaws: tuple[Flaw, ...] = ()) -> None:
        super().__init__(detail)
        self.detail = detail
        self.flaws = flaws


class Malformed(ServiceError, code="malformed", title="The request cannot be read"):
    """The body is not what its media type claims."""


class KeyMissing(ServiceError, code="key_missing", title="A key is needed"):
    """The request has no key, and the service asks for one."""


class KeyUnknown(ServiceError, code="key_unknown", title="The key is not taken"):
    """The request's key is not one of the accepted keys."""


class ScopeMissing(ServiceError, code="scope_missing", title="The key does not allow this"):
    """The request's key is accepted, but not for this."""


class NotFound(ServiceError, code="not_found", title="Not found"):
    """Something named in the path does not exist."""


class UnknownRoute(NotFound, code="unknown_route", title="No such path"):
    """There is no such path."""


class UnknownModel(NotFound, code="unknown_model", title="No such model"):
    """There is no model of that name."""


class UnknownVersion(NotFound, code="unknown_version", title="No such version"):
    """The model exists, but not that version of it."""


class OperationNotOffered(
    NotFound, code="operation_not_offered", title="The model does not offer this operation"
):
    """The model version lacks the graphs the operation needs."""

    def __init__(self, detail: str, *, offered: tuple[str, ...]) -> None:
        super().__init__(detail)
        self.offered = offered


class MethodNotAllowed(ServiceError, code="method_not_allowed", title="Method not allowed"):
    """The path exists, but for other methods."""

    def __init__(self, detail: str, *, allowed: tuple[str, ...]) -> None:
        super().__init__(detail)
        self.allowed = allowed


class NotAcceptable(ServiceError, code="not_acceptable", title="No acceptable media type"):
    """None of the media types in `Accept` can be produced."""


class BodyTooLarge(ServiceError, code="body_too_large", title="The body is too large"):
    """The body has more bytes than the limit."""


class UnsupportedMedia(ServiceError, code="unsupported_media_type", title="Unsupported media type"):
    """The path does not read this content type or encoding."""


class Unfit(ServiceError, code="unfit", title="The request does not fit"):
    """The request is well-formed, but its values do not fit the model or the API."""


class LimitExceeded(Unfit, code="limit_exceeded", title="Over a limit"):
    """A number is over one of the service's limits."""


class NotEnabled(ServiceError, code="not_enabled", title="Not enabled here"):
    """The service was started without this feature."""


class Overloaded(ServiceError, code="overloaded", title="Too many rows are waiting"):
    """The queue is full; nothing was queued."""

    def __init__(self, detail: str, *, retry_after_seconds: int = 1) -> None:
        super().__init__(detail)
        self.retry_after_seconds = retry_after_seconds


class Unavailable(ServiceError, code="unavailable", title="Not available now"):
    """The service cannot answer now, but can later."""

    retry_after_seconds = 1


class Loading(Unavailable, code="loading"):
    """The model is being loaded."""


class LoadFailed(Unavailable, code="load_failed"):
    """The version exists but could not be loaded; the log and `/v1/models` say why."""

    retry_after_seconds = 60


class Busy(Unavailable, code="busy", title="Too much is in flight"):
    """Requests and answers in flight hold as many bytes as they may, or as many connections are at work."""


class OutOfMemory(Unavailable, code="out_of_memory", title="There is no memory for this now"):
    """There was no memory for the computation; it may succeed once others have ended."""


class Draining(Unavailable, code="draining"):
    """The service is shutting down."""


class Unreachable(Unavailable, code="unreachable", title="The service cannot be reached"):
    """A client gets no answer from the address of the service."""

    retry_after_seconds = 0


class DeadlineExceeded(ServiceError, code="deadline_exceeded", title="The deadline has passed"):
    """The deadline passed before the answer was ready."""


class EngineFailed(ServiceError, code="engine_failed", title="The computation failed"):
    """The computation failed; the log has the cause, which the client does not see."""


class RuntimeFailed(EngineFailed, code="runtime_failed"):
    """ONNX Runtime raised an error; if it does so every time, the process should be restarted."""


class InvalidVersion(ServiceError, code="invalid_version", title="The published version is invalid"):
    """A published version is damaged, incomplete or breaks the contract."""


class NotLoadedNow(InvalidVersion, code="not_loaded_now", title="The version cannot be loaded now"):
    """A version could not be loaded for want of memory, time or processes, or by its disk, which may pass."""


class InvalidKeys(ServiceError, code="invalid_keys", title="The file of keys cannot be read"):
    """The file of keys cannot be read, or is not such a file."""


class InvalidAliases(ServiceError, code="invalid_aliases", title="The aliases are invalid"):
    """A model's aliases cannot be read, or cannot be changed as requested."""


class SourceUnavailable(
    ServiceError, code="source_unavailable", title="The source of models is not available"
):
    """The remote source of versions cannot be read."""


class ProviderUnavailable(
    ServiceError, code="provider_unavailable", title="The execution provider is not available"
):
    """The requested execution provider cannot be used on this machine."""


class CannotListen(Exception):
    """The address is taken or is not of this machine; the message is for the person who starts the server."""
