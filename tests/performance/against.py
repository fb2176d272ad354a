"""Other running servers that are measured beside ours; the bench asks them which API they speak."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import httpx

from .dialects import Dialect, OurDialect
from .failure import BenchFailed
from .models import Model
from .open_inference import OpenInference
from .servers import Target
from .workloads import FLOOR, NAIVE, SERVICE

_OURS: Final = (SERVICE, NAIVE, FLOOR)
"""The names of the servers that the bench starts."""


@dataclass(frozen=True, slots=True)
class Address:
    """The URL of a server, and its name in the report."""

    name: str
    url: str

    @classmethod
    def parse(cls, text: str) -> Address:
        """Parse `URL` or `NAME=URL`; raise ValueError if it is neither, or the name is one of ours."""
        name, equals, url = text.partition("=") if not text.startswith("http") else ("", "", text)
        parsed = httpx.URL(url.rstrip("/"))
        if parsed.scheme != "http" or not parsed.host or (equals and not name) or name in _OURS:
            raise ValueError(
                f"{text!r} is not [NAME=]http://HOST:PORT with a name other than {', '.join(_OURS)}"
            )
        return cls(name or parsed.netloc.decode(), str(parsed))


@contextmanager
def attached(address: Address, models: Mapping[str, Model]) -> Iterator[Target]:
    """A running server as a target.

    Raises:
        BenchFailed: it does not answer, or speaks neither our `/v1` nor the Open Inference Protocol's `/v2`.
    """
    with httpx.Client(base_url=address.url, timeout=30.0, trust_env=False) as client:
        try:
            dialect = _dialect(address, client, models)
        except (httpx.HTTPError, ValueError, LookupError) as error:
            raise BenchFailed(
                f"{address.name} at {address.url} cannot be asked what it is: {error}"
            ) from error
        yield Target(address.name, address.url, dialect)


def _dialect(address: Address, client: httpx.Client, models: Mapping[str, Model]) -> Dialect:
    catalogue = client.get("/v1/models")
    if catalogue.status_code == 200 and "models" in catalogue.json():
        return OurDialect(models, {entry["name"] for entry in catalogue.json()["models"]})
    if client.get("/v2/health/ready").status_code == 200:
        return OpenInference(client, models)
    raise BenchFailed(
        f"{address.name} at {address.url} answers neither /v1/models as this service does nor "
        "/v2/health/ready; start it, or name another"
    )
