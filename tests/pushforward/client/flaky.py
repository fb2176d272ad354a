"""A TCP proxy in front of a real service that spoils chosen answers."""

from __future__ import annotations

import asyncio
import re
import sys
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Cut:
    """Breaks the connection after so many bytes of the answer."""

    bytes: int


@dataclass(frozen=True)
class Hold:
    """Forwards so many bytes of the answer, and breaks the connection once the service has ended."""

    bytes: int


@dataclass(frozen=True)
class Refuse:
    """Answers in place of the service, with a status and `Retry-After`."""

    status: int
    retry_after: str = ""
    body: bytes = b"no"

    def answer(self) -> bytes:
        wait = f"retry-after: {self.retry_after}\r\n" if self.retry_after else ""
        head = f"HTTP/1.1 {self.status} No\r\n{wait}content-length: {len(self.body)}\r\n"
        return f"{head}connection: close\r\n\r\n".encode() + self.body


@dataclass(frozen=True)
class Swallow:
    """Reads the request and never answers."""


@dataclass(frozen=True)
class Drip:
    """Answers with `beginning`, and then with a byte every 50 ms."""

    beginning: bytes


Fault = Cut | Drip | Hold | Refuse | Swallow


class FlakyProxy:
    """Forwards requests to `target`, one per connection; `faults` spoil the next answers of operations."""

    def __init__(self, target: str) -> None:
        self.target = target
        self.faults: deque[Fault] = deque()
        self.requests: list[str] = []
        """The request lines and headers of all operations that came, spoilt ones too."""
        self.url = ""
        self._loop = asyncio.new_event_loop()
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    @property
    def lines(self) -> list[str]:
        """The first lines of the requests."""
        return [request.partition("\r\n")[0] for request in self.requests]

    def __enter__(self) -> FlakyProxy:
        self._thread.start()
        assert self._started.wait(30)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(30)

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._until_stopped())
        self._loop.close()

    async def _until_stopped(self) -> None:
        self._stop = asyncio.Event()
        tasks: set[asyncio.Task[None]] = set()

        def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.create_task(self._handle(reader, writer))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

        server = await asyncio.start_server(connected, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        self._started.set()
        await self._stop.wait()
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)  # in which the transports close their sockets

    async def _handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"(?i)\r\ncontent-length: (\d+)", head)
            body = await reader.readexactly(int(length[1])) if length else b""
            fault = self._fault(head)
            if isinstance(fault, Refuse):
                writer.write(fault.answer())
                await writer.drain()
            elif isinstance(fault, Drip):
                await self._drip(fault.beginning, writer)
            elif isinstance(fault, Swallow):
                await self._stop.wait()
            else:
                head = re.sub(rb"(?i)\r\nconnection: [^\r]+", b"", head)
                head = head.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n")
                await self._forward(head + body, writer, fault)
        except (OSError, asyncio.IncompleteReadError):
            writer.transport.abort()
        except asyncio.CancelledError:
            writer.transport.abort()
            raise
        writer.close()

    async def _drip(self, beginning: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(beginning)
        while not self._stop.is_set():
            writer.write(b"x")
            await writer.drain()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), 0.05)

    def _fault(self, head: bytes) -> Fault | None:
        if not re.match(rb"(GET|POST) /v1/models/[^/ ]+(/versions/[^/ ]+)?/[a-z]+[? ]", head):
            return None  # of the catalogue
        self.requests.append(head.decode())
        return self.faults.popleft() if self.faults else None

    async def _forward(self, request: bytes, writer: asyncio.StreamWriter, fault: Cut | Hold | None) -> None:
        parts = urlsplit(self.target)
        reader, upstream = await asyncio.open_connection(parts.hostname, parts.port)
        left = sys.maxsize if fault is None else fault.bytes
        try:
            upstream.write(request)
            await upstream.drain()
            while piece := await reader.read(65_536):
                writer.write(piece[:left])
                await writer.drain()
                left -= min(left, len(piece))
                if not left and isinstance(fault, Cut):
                    return
        finally:
            upstream.transport.abort()


@contextmanager
def flaky(target: str, *faults: Fault) -> Iterator[FlakyProxy]:
    """A running proxy with these faults."""
    with FlakyProxy(target) as proxy:
        proxy.faults.extend(faults)
        yield proxy
