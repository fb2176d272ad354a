"""Requests for versions: which one answers, what is known of it, and rows in pieces that it takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Generic

from pushforward.checks import check_names
from pushforward.client.known import KnownModel
from pushforward.client.npy import to_npy
from pushforward.client.sending import Deadline, Sender
from pushforward.client.wire import HttpAnswer, HttpRequest, Script, T, operation_path
from pushforward.results import Floats
from service.errors import (
    BodyTooLarge,
    DeadlineExceeded,
    LimitExceeded,
    LoadFailed,
    Loading,
    NotFound,
    ServiceError,
    Unfit,
)

Version = int | str | None
"""A version: its number, an alias, or None for the version that answers requests which name none."""
MOST_LABELLED: Final = 1024
"""Rows of one request with a label for each, which stand in its query."""


@dataclass(frozen=True, slots=True)
class RowsRequest(Generic[T]):
    """A request with rows in its body, which are sent in pieces if they are too many for one request."""

    operation: str
    query: Mapping[str, Any]
    accept: str
    most_rows: int
    """Most rows of a piece, by the limits of the service."""
    read: Callable[[HttpAnswer], T]
    divisible: bool = True
    """True if pieces that the service cannot answer in time may be made smaller."""


class AnotherVersion(Exception):
    """A version other than the known one has answered."""


class Versions:
    """Makes the scripts of requests for the versions of one service; it remembers those that it knows."""

    def __init__(self, sender: Sender) -> None:
        self._sender = sender
        self._known: dict[tuple[str, Version], KnownModel] = {}

    def in_pieces(
        self,
        model: KnownModel,
        version: Version,
        request: RowsRequest[T],
        rows: Floats,
        deadline: Deadline,
    ) -> Script[list[T]]:
        """Send rows in pieces, and read the answers; the version that answers the first gets all others."""
        if request.most_rows < 1:
            raise LimitExceeded(
                f"one row of {model.name} is more than the service takes in a request, of at most "
                f"{model.limits['body_bytes']} bytes"
            )
        start, size, results = 0, request.most_rows, []
        labels = request.query.get("labels")
        if labels is not None:
            size = min(size, MOST_LABELLED)
        while start < len(rows):
            piece = rows[start : start + size]
            path = operation_path(model.name, version, request.operation)
            query = request.query
            if labels is not None:
                query = {**query, "labels": model.labels_text(labels[start : start + size])}
            sent = HttpRequest(path, request.accept, query, to_npy(piece))
            try:
                answer = yield from self.answer_of(model, version, sent, deadline)
            except (DeadlineExceeded, BodyTooLarge):
                if len(piece) == 1 or deadline.is_over or not request.divisible:
                    raise
                size = len(piece) // 2  # too many for the service's own deadline, or for a proxy
                continue
            except ServiceError as error:
                error.flaws = tuple(flaw.after(start) for flaw in error.flaws)
                raise
            results.append(request.read(answer))
            version, start = model.version, start + len(piece)
        return results

    def answer_of(
        self, model: KnownModel, version: Version, request: HttpRequest, deadline: Deadline
    ) -> Script[HttpAnswer]:
        """Send a request for a model at a version; raise AnotherVersion if it is not the model's."""
        pinned = version == model.version
        answer = yield from self._sender.answer(request, deadline, pinned=pinned)
        if answer.version not in (None, model.version):
            raise AnotherVersion
        return answer

    def on_known(
        self,
        name: str,
        version: Version,
        deadline: Deadline,
        work: Callable[[KnownModel, Version], Script[T]],
    ) -> Script[T]:
        """Do work on a model as it is described; again, if its description turns out to be out of date.

        Rows are read by a description, so an answer of a version that has another one is not taken.
        """
        model, is_fresh = yield from self.known(name, version, deadline)
        if not is_fresh:
            try:
                return (yield from work(model, version))
            except (AnotherVersion, Unfit, NotFound) as error:
                known, (model, _) = model, (yield from self.known(name, version, deadline, fresh=True))
                if known == model and not isinstance(error, AnotherVersion):
                    raise
        return (yield from work(model, model.version))

    def known(
        self, name: str, version: Version, deadline: Deadline, *, fresh: bool = False
    ) -> Script[tuple[KnownModel, bool]]:
        """Return what is known of a version, and True if the service was asked for it just now."""
        check_names(name, version)
        known = self._known.get((name, version))
        if known is not None and not fresh:
            return known, False
        yield from self.described(name, version, deadline)
        return self._known[name, version], True

    def described(self, name: str, version: Version, deadline: Deadline) -> Script[dict[str, Any]]:
        """Ask for the description of a version, and remember it. Wait for a version that is being loaded."""
        failures = 0
        while True:
            answer = yield from self._sender.answer(HttpRequest(operation_path(name, version)), deadline)
            document = answer.document("state")
            if document.get("state") == "ready":
                self._known[name, version] = KnownModel.of(document, self._sender.shown)
                return document
            number, reason = document.get("version"), document.get("reason")
            error = Loading if document.get("state") == "loading" else LoadFailed
            failures += 1
            yield from self._sender.recover(
                error(f"version {number} of {name} is not served: {reason}"), failures, deadline
            )
