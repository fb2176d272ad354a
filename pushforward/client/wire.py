"""Requests and answers of the service's HTTP API as plain values, and the steps of a script.

A script is a generator that yields steps and is sent their results: it decides everything and does no IO.
`Client` and `AsyncClient` carry the steps out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Generator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar
from urllib.parse import quote, urlencode

from numpy.typing import NDArray

from service.errors import Malformed

JSON: Final = "application/json"
NPY: Final = "application/x-npy"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A request, without the address of the service."""

    path: str
    accept: str = JSON
    query: Mapping[str, Any] = field(default_factory=dict)
    body: bytes | None = None
    """The body of a POST request; None for GET."""
    content_type: str = NPY

    @property
    def method(self) -> str:
        """Return the HTTP method."""
        return "GET" if self.body is None else "POST"

    @property
    def target(self) -> str:
        """Return the path and the query; options that are None are left out, numbers keep every digit."""
        given = {key: _text(value) for key, value in self.query.items() if value is not None}
        return f"{self.path}?{urlencode(given)}" if given else self.path

    @property
    def headers(self) -> dict[str, str]:
        """Return the headers that the request itself needs."""
        typed = {} if self.body is None else {"content-type": self.content_type}
        return {"accept": self.accept, **typed}


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def without_password(url: str) -> str:
    """Return an address as messages show it: a password in it is left out."""
    return re.sub(r"(//[^/@:]*):[^/?#]*@", r"\1:...@", url)


def operation_path(name: str, version: int | str | None, operation: str = "") -> str:
    """Return the path of a model, of one of its versions, or of an operation of these."""
    parts = ["/v1/models", quote(name, safe="")]
    if version is not None:
        parts += ["versions", quote(str(version), safe="")]
    return "/".join([*parts, operation] if operation else parts)


@dataclass(slots=True)
class HttpAnswer:
    """An answer; its body is empty until it is read, piece by piece."""

    status: int
    headers: Mapping[str, str]
    body: bytes = b""

    @property
    def version(self) -> int | None:
        """Return the number of the version that answered, if the answer names one."""
        number = self.headers.get("x-pushforward-version")
        return int(number) if number else None

    def document(self, wanted: str = "") -> dict[str, Any]:
        """Return the JSON object of the body, whose numbers keep every digit.

        Raises:
            Malformed: the body is no JSON object, or one without the field `wanted`.
        """
        came = self.headers.get("content-type", "of no type")
        with suppress(ValueError):
            document = json.loads(self.body)
            if isinstance(document, dict) and (not wanted or wanted in document):
                return document
            came = "JSON of another kind"
        raise Malformed(f"the answer is {came}, not one of Pushforward; does the address lead to it?")


class BrokenConnection(NamedTuple):
    """A connection that could not be made, or broke before the answer was complete."""

    reason: str


class Send(NamedTuple):
    """A step: send a request. Its result is an HttpAnswer without its body, or a BrokenConnection."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes | None
    seconds: float | None
    """The longest wait for the next bytes of the answer, in seconds; None for no limit."""


class ReadPiece(NamedTuple):
    """A step: read the next bytes of the answer, none at its end. It may result in a BrokenConnection."""

    seconds: float | None
    """The time that is left, which asyncio can hold; a blocking read waits as long as `Send` says."""


class Pause(NamedTuple):
    """A step: sleep. It has no result."""

    seconds: float


class YieldRows(NamedTuple):
    """A step: yield rows to the caller of an iterator. It has no result."""

    rows: NDArray[Any]


ScriptStep: TypeAlias = Send | ReadPiece | Pause | YieldRows
Script: TypeAlias = Generator[ScriptStep, Any, T]
