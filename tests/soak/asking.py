"""The clients of the soak: connections to the service, random choices, and the faults they found."""

from __future__ import annotations

import random
import socket
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from urllib.parse import urlsplit

import grpc

TIMEOUT_SECONDS = 60.0
_MOST_TOLD = 20


@dataclass(slots=True)
class Findings:
    """The counts of all clients, and the first faults they found."""

    statuses: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Answers by the question's name and the status."""
    wrong: list[str] = field(default_factory=list)
    """The first wrong answers, in words."""
    wrong_count: int = 0
    answers: dict[tuple[str, str], bytes] = field(default_factory=dict)
    """The first answer to each fixed request of each version: every later one has the same bytes."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def tell(self, flaw: str) -> None:
        """Note something wrong."""
        with self.lock:
            self.wrong_count += 1
            if len(self.wrong) < _MOST_TOLD:
                self.wrong.append(flaw)

    def check_same(self, request: str, version: str, content: bytes) -> None:
        """Note it if the same request of the same version had another answer before."""
        with self.lock:
            before = self.answers.setdefault((request, version), content)
        if before != content:
            self.tell(f"{request} of version {version}: other bytes than before")


class Client:
    """One client: a kept connection, and connections of its own for what ends them."""

    def __init__(self, url: str, rpc: grpc.Channel, seed: int, findings: Findings) -> None:
        self.random = random.Random(seed)
        self.rpc = rpc
        self.findings = findings
        self._address = urlsplit(url)
        self._kept = HTTPConnection(self._address.netloc, timeout=TIMEOUT_SECONDS)

    def ask(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, Mapping[str, str], bytes]:
        """Ask on the kept connection, as clients do: anew if the service has closed it while it was idle."""
        try:
            return self._ask(method, path, body, headers or {})
        except (ConnectionError, HTTPException):
            self._kept.close()
            return self._ask(method, path, body, headers or {})

    def _ask(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]
    ) -> tuple[int, Mapping[str, str], bytes]:
        self._kept.request(method, path, body, dict(headers))
        response = self._kept.getresponse()
        return response.status, dict(response.headers), response.read()

    def connect(self) -> socket.socket:
        """A connection of its own."""
        assert self._address.hostname is not None
        return socket.create_connection((self._address.hostname, self._address.port or 80), TIMEOUT_SECONDS)

    def close(self) -> None:
        """Close the kept connection."""
        self._kept.close()


@dataclass(frozen=True, slots=True)
class Question:
    """A kind of request: a function that sends it and returns the status, and the right statuses."""

    name: str
    ask: Callable[[Client], str]
    right: frozenset[str]

    def put(self, client: Client) -> None:
        """Ask it once, and note what came."""
        try:
            status = self.ask(client)
        except Exception as error:  # whatever it is, the client goes on
            status = type(error).__name__ if not isinstance(error, grpc.RpcError) else error.code().name
            client.close()
        findings = client.findings
        with findings.lock:
            findings.statuses[self.name, status] += 1
        if status not in self.right:
            findings.tell(f"{self.name}: {status}; right would be {', '.join(sorted(self.right))}")
