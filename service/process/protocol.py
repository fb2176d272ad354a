"""uvicorn's HTTP protocol with limits on headers, on slow requests and on readers that stop.

It also writes a small answer as a whole (`WHOLE`), because with two ASGI messages every header would be
checked again. uvicorn's protocol class is not public API: its pin, and the tests on floods and slow clients,
guard these extensions.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from service.api.exchange import WHOLE
from service.api.problems import Headers


def bounded_protocol(
    max_header_bytes: int, idle_seconds: float, refusal: Callable[[int, str, str], bytes]
) -> type[HttpToolsProtocol]:
    """Return a class of HTTP protocol like uvicorn's, with limits.

    Args:
        max_header_bytes: Most bytes of a request's line and headers.
        idle_seconds: Longest time for a request's head to arrive, and for a reader to read anything.
        refusal: Makes the whole answer to a broken request from a status, a code and a sentence.
    """

    class BoundedProtocol(HttpToolsProtocol):
        _head_timer: asyncio.TimerHandle | None = None
        _write_timer: asyncio.TimerHandle | None = None
        _in_head = True
        _began = False
        """True if a head began in the last bytes."""
        _told = False
        """True if a head or a piece of a body began in the last bytes."""
        _came_bytes = 0
        """Number of the last bytes."""
        _untold_bytes = 0
        """Number of bytes since then that only the parser holds: a head, a chunk's extension, trailers."""
        _running: RequestResponseCycle | None = None
        """The request that is or was answered last; the newest one may still wait for its turn."""

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._wait_for_head()

        def data_received(self, data: bytes) -> None:
            self._began = self._told = False
            self._came_bytes = len(data)
            super().data_received(data)
            self._untold_bytes = 0 if self._told else self._untold_bytes + len(data)
            if self._untold_bytes > max_header_bytes:
                self._refuse_headers()
            elif self._head_timer is None and (self._in_head or self._stopped_a_timer_for_nothing()):
                self._wait_for_head()

        def on_message_begin(self) -> None:
            super().on_message_begin()
            self._in_head = self._began = self._told = True

        def on_body(self, body: bytes) -> None:
            self._told = True
            super().on_body(body)

        def on_headers_complete(self) -> None:
            self._head_ends()
            may_be_too_large = self._came_bytes > max_header_bytes or not self._began
            if may_be_too_large and self._are_too_large():
                self._refuse_headers()
                return
            super().on_headers_complete()
            self.headers = []  # trailers are not headers of the request
            self.scope[WHOLE] = self._write_whole  # type: ignore[typeddict-unknown-key]

        def _write_whole(self, scope: Any, headers: Headers, body: bytes) -> bool:
            cycle = (
                self.cycle
            )  # not stored in the scope, which it refers to: the cycle would wait for the collector
            if cycle.scope is not scope:  # requests were pipelined
                return False
            return _write_whole(cycle, headers, body)

        def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - its text is uvicorn's, not ours
            self._refuse(400, "malformed", "the request is not HTTP as it should be")

        def pause_writing(self) -> None:
            super().pause_writing()
            self._write_timer = self.loop.call_later(idle_seconds, self.transport.abort)

        def resume_writing(self) -> None:
            super().resume_writing()
            self._write_ends()

        def timeout_keep_alive_handler(self) -> None:
            if self.transport.get_write_buffer_size():  # closing would wait for a reader that is gone
                self.transport.abort()
            super().timeout_keep_alive_handler()

        def connection_lost(self, exc: Exception | None) -> None:
            self._head_ends()
            self._write_ends()
            super().connection_lost(exc)
            if self._running is not None and self._answers():  # uvicorn informs only the newest
                self._running.disconnected = True
                self._running.message_event.set()
            waiting = [cycle.scope for cycle, _ in self.pipeline]
            self.pipeline.clear()
            for scope in (self.scope, getattr(self.cycle, "scope", None), *waiting):
                if scope is not None:  # a reference cycle with the protocol
                    scope.pop(WHOLE, None)  # type: ignore[typeddict-item]

        def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
            self._running = cycle
            super()._start_asgi_task(cycle, app)

        def _answers(self) -> bool:
            return self._running is not None and not self._running.response_complete

        def _stopped_a_timer_for_nothing(self) -> bool:
            """Return True if the last bytes were empty lines between two requests."""
            return not self._told and not self._answers()

        def _wait_for_head(self) -> None:
            self._head_timer = self.loop.call_later(idle_seconds, self._head_is_late)

        def _head_is_late(self) -> None:
            if self._answers():  # nothing is read meanwhile: the head's time begins after
                self._wait_for_head()
            else:
                self.transport.close()

        def _head_ends(self) -> None:
            self._in_head = False
            if self._head_timer is not None:
                self._head_timer.cancel()
                self._head_timer = None

        def _write_ends(self) -> None:
            if self._write_timer is not None:
                self._write_timer.cancel()
                self._write_timer = None

        def _are_too_large(self) -> bool:
            size = sum(len(name) + len(value) for name, value in self.headers)
            return size + len(self.url) > max_header_bytes

        def _refuse_headers(self) -> None:
            self._refuse(431, "headers_too_large", "the request line and headers have too many bytes")

        def _refuse(self, status: int, code: str, detail: str) -> None:
            """Refuse a broken request; while another is answered, only cut the connection."""
            if self.transport.is_closing():  # it was refused already
                return
            self._head_ends()
            if self._answers():
                self.transport.abort()
                return
            self.transport.write(refusal(status, code, detail))
            self.transport.close()

    return BoundedProtocol


def _write_whole(cycle: RequestResponseCycle, headers: Headers, body: bytes) -> bool:
    """Write an answer as the cycle's `send` does with two messages, but without checking headers."""
    if cycle.disconnected or cycle.flow.write_paused or cycle.response_started:
        return False
    pieces = [b"HTTP/1.1 200 OK\r\n"]
    for name, value in (*cycle.default_headers, *headers):
        pieces += (name, b": ", value, b"\r\n")
    pieces.append(b"\r\n" if cycle.keep_alive else b"connection: close\r\n\r\n")
    pieces.append(body)
    cycle.response_started = cycle.response_complete = True
    cycle.transport.write(b"".join(pieces))
    cycle.message_event.set()
    if not cycle.keep_alive:
        cycle.transport.close()
    cycle.on_response()
    return True
