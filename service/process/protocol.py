"""uvicorn's HTTP protocol with limits on headers, on slow requests and on readers that stop.

At the limit of open files it closes idle connections for new ones, see `descriptors`.

It also writes a small answer as a whole (`WHOLE`), because with two ASGI messages every header would be
checked again. uvicorn's protocol class is not public API: the bound of its version, and the tests on floods
and slow clients, guard these extensions.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from typing import Any, Final

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from service.api.exchange import BODY, SURPLUS, WHOLE
from service.api.problems import Headers, raw_problem
from service.process.balance import Share
from service.process.descriptors import Descriptors
from service.process.framing import is_ambiguous
from service.process.heads import KnownHeads
from service.process.secure import SecureProtocol

_PIECE_BYTES: Final = 2**14
"""Largest piece that is parsed at once: so many requests, at most, wait for their turn on a connection."""
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_PROBE_SECONDS: Final = 0.1
_PATHLESS: Final = re.compile(rb"^(https?://[^/?]+)(?=\?|$)", re.IGNORECASE)
"""A target in absolute form whose path is empty, which stands for `/` (RFC 9110, section 4.2.3)."""


class BoundedProtocol(SecureProtocol):
    """The protocol of one connection; `bounded_protocol` makes the class with its limits."""

    _max_header_bytes: int
    _descriptors: Descriptors
    """Shared by all connections of the process, as `_heads`."""
    _heads: KnownHeads
    _share: Share | None
    """None in a process that serves alone."""
    _between_requests = True
    """True if no byte of the next request was parsed, and the connection stays open."""
    _head_timer: asyncio.TimerHandle | None = None
    _write_timer: asyncio.TimerHandle | None = None
    _in_head = True
    _head_began = False
    """True if a head began in the bytes that were fed to the parser last."""
    _reported = False
    """True if the parser reported a head or a piece of a body for them."""
    _fed_bytes = 0
    """Number of them."""
    _unreported_bytes = 0
    """Number of bytes since its last report, which it alone holds: a head, a chunk's extension, trailers."""
    _running: RequestResponseCycle | None = None
    """The request that is or was answered last; the newest one may still wait for its turn."""
    _half_closed = False
    """True once the client has closed its side, and waits for answers."""
    _last_words = b""
    """The refusal of a broken request, sent once those before it are answered."""
    _lingers = False
    """True once all is said, while what the client still sends is thrown away."""
    is_surplus = False
    _is_shed = False

    def connection_made(self, transport: Any) -> None:
        """Make room for the connection, and wait for its first head, or its handshake; or pass it on."""
        if self._share is not None:
            if self._share.passes_on(transport.get_extra_info("socket"), len(self.connections) + 1):
                transport.abort()  # which closes the descriptor of this process alone
                return
            self._share.count(len(self.connections) + 1)
        super().connection_made(transport)
        self._wait_for_head()
        self._descriptors.admit(self, self.connections)

    def idle_since(self) -> float | None:
        """Return the time on the loop's clock since which there has been no request; None amid one."""
        if self._answered() is not None or self.transport.is_closing():
            return None
        if self.timeout_keep_alive_task is not None:
            return self.timeout_keep_alive_task.when() - self.timeout_keep_alive
        return self._head_timer.when() - self._idle_seconds if self._head_timer is not None else None

    def shed(self) -> None:
        """Close it, so that its descriptor is free for another connection."""
        self._is_shed = True
        self._close_idle()

    def data_received(self, data: bytes) -> None:
        """Parse what came, in pieces if it is much."""
        self._unset_keepalive_if_required()
        if self._last_words or self._lingers:
            return
        if self.flow.unparsed or len(data) > _PIECE_BYTES:
            self.flow.unparsed += data
            self._parse_pieces()
        else:
            self._parse(data)

    def on_response_complete(self) -> None:
        """Go on with the requests behind this answer, or close where nothing follows."""
        super().on_response_complete()
        if self.flow.unparsed:
            self._parse_pieces()
        if (self._last_words or self._half_closed) and self._answered() is None and not self._lingers:
            self.transport.write(self._last_words)
            self._hang_up()

    def eof_received(self) -> bool:  # type: ignore[override]  # uvicorn's always closes
        """Stay open for the answers to requests that came whole; with TLS that cannot be."""
        self._give_up_incomplete()
        if self._answered() is None or self.scheme == "https":
            return False
        if not self._half_closed:
            self._half_closed = True
            self._probe()
        return True

    def _probe(self) -> None:
        """Send interim answers until there is one; a client that has closed both sides refuses them."""
        cycle = self._answered()
        if cycle is None or self.transport.is_closing():
            return
        if not cycle.response_started and cycle.scope["http_version"] == "1.1":
            self.transport.write(_CONTINUE)
        self.loop.call_later(_PROBE_SECONDS, self._probe)

    def _parse_pieces(self) -> None:
        """Parse what came until requests wait for their turn; what follows them is read afterwards."""
        rest = memoryview(self.flow.unparsed)
        while rest and not self.pipeline and not self._last_words and not self.transport.is_closing():
            self._parse(bytes(rest[:_PIECE_BYTES]))
            rest = rest[_PIECE_BYTES:]
        self.flow.unparsed = b"" if self._last_words else bytes(rest)
        if self.flow.unparsed:
            self.flow.pause_reading()

    def _parse(self, data: bytes) -> None:
        if self._between_requests and self._answered() is None:
            known = self._heads.scope_and_body(data)
            if known is not None:
                self._begin(*known)
                return
        self._head_began = self._reported = False
        self._fed_bytes = len(data)
        try:
            self._feed(data)
        except HttpParserError as error:
            self.send_400_response(str(error))
        self._unreported_bytes = 0 if self._reported else self._unreported_bytes + len(data)
        if self._unreported_bytes > self._max_header_bytes:
            self._refuse_headers()
        elif self._head_timer is None and (self._in_head or not (self._reported or self._answered())):
            self._wait_for_head()  # also after an empty line, which has ended the keep-alive timer
        self._between_requests = self._head_began and self._is_whole() and self._heads.learn(data, self.scope)

    def _begin(self, scope: dict[str, Any], body: bytes) -> None:
        """Start to answer a request that came whole, and whose head is known."""
        self._head_ends()
        scope |= {"server": self.server, "client": self.client, "scheme": self.scheme}
        self.scope = scope | {"state": self.app_state.copy(), BODY: body}  # type: ignore[assignment]
        self._extend_scope()
        arrived = asyncio.Event()
        arrived.set()
        self.cycle = RequestResponseCycle(
            scope=self.scope,
            transport=self._answer_transport,  # type: ignore[arg-type]
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=self.access_log,
            default_headers=self.server_state.default_headers,
            message_event=arrived,
            expect_100_continue=False,
            keep_alive=True,
            on_response=self.on_response_complete,
        )
        self.cycle.body += body
        self.cycle.more_body = False
        self._start_asgi_task(self.cycle, self.app)

    def _is_whole(self) -> bool:
        """Return True if the newest head began a request that has come whole, and keeps the connection."""
        cycle: RequestResponseCycle | None = getattr(self, "cycle", None)  # None before the first
        return cycle is not None and cycle.scope is self.scope and cycle.keep_alive and not cycle.more_body

    def _feed(self, data: bytes) -> None:
        """Feed the parser; ignore an offer of another protocol (RFC 9110, section 7.8).

        The parser takes a request with `Upgrade` for one without a body, and ends there: another parser
        reads the head again without that header, and then the body.
        """
        while not self._last_words:
            try:
                self.parser.feed_data(data)
            except HttpParserUpgrade as offer:
                method = self.parser.get_method()
                if method == b"CONNECT" or self.transport.is_closing():
                    raise HttpParserError("there are no tunnels here") from offer
                version = self.parser.get_http_version().encode()
                head = [b"%b %b HTTP/%b" % (method, self.url, version)]
                head += [b"%b: %b" % pair for pair in self.headers if pair[0] != b"upgrade"]
                self.parser = HttpRequestParser(self)
                self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does
                self.parser.feed_data(b"\r\n".join([*head, b"", b""]))
                data = data[offer.args[0] :]
            else:
                return

    def on_message_begin(self) -> None:
        """Note that a head begins."""
        super().on_message_begin()
        self._in_head = self._head_began = self._reported = True

    def on_body(self, body: bytes) -> None:
        """Hand a piece of a body on."""
        self._reported = True
        super().on_body(body)

    def on_headers_complete(self) -> None:
        """Check the head of a request, and start to answer it."""
        self._head_ends()
        self._reported = True
        if self._fed_bytes > self._max_header_bytes or not self._head_began:  # else they are small enough
            size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
            if size > self._max_header_bytes:
                self._refuse_headers()
                raise HttpParserError("no more is read")
        if is_ambiguous(self.headers, self.parser.get_http_version()):
            raise HttpParserError("no more is read")
        if self.parser.should_upgrade():  # the head is read again
            return
        if self.url[:1] != b"/":
            self.url = _PATHLESS.sub(rb"\1/", self.url)
        super().on_headers_complete()
        self.cycle.transport = self._answer_transport  # type: ignore[assignment]
        self.headers = []  # trailers are not headers of the request
        self._extend_scope()

    def _extend_scope(self) -> None:
        self.scope[WHOLE] = self._write_whole  # type: ignore[typeddict-unknown-key]
        if self.is_surplus:
            self.scope[SURPLUS] = True  # type: ignore[typeddict-unknown-key]

    def on_message_complete(self) -> None:
        """Note that a request came whole, unless its head is read again."""
        if not self.parser.should_upgrade():
            super().on_message_complete()

    def _write_whole(self, scope: Any, headers: Headers, body: bytes) -> bool:
        """Write an answer as the cycle's `send` does with two messages, but without checking headers."""
        # the scope does not store the cycle, which refers to it: both would wait for the collector
        cycle = self.cycle
        if cycle.scope is not scope:  # requests were pipelined
            return False
        if cycle.disconnected or cycle.flow.write_paused or cycle.response_started:
            return False
        lines = [b"HTTP/1.1 200 OK", *map(b": ".join, cycle.default_headers), *map(b": ".join, headers)]
        if not cycle.keep_alive:
            lines.append(b"connection: close")
        cycle.response_started = cycle.response_complete = True
        cycle.transport.write(b"\r\n".join([*lines, b"", body]))
        cycle.message_event.set()
        if not cycle.keep_alive:
            cycle.transport.close()
        cycle.on_response()
        return True

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - its text is uvicorn's, not ours
        """Refuse bytes that are no request."""
        self._refuse(400, "malformed", "the request is not HTTP as it should be")

    def pause_writing(self) -> None:
        """Wait for the reader, and drop the connection if it reads nothing in time."""
        super().pause_writing()
        self._write_timer = self.loop.call_later(self._idle_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        """Write on: the client reads again."""
        super().resume_writing()
        self._write_ends()

    def timeout_keep_alive_handler(self) -> None:
        """Close a connection without a request for as long as it may be kept."""
        self._close_idle()

    def _close_idle(self) -> None:
        if self.transport.get_write_buffer_size():  # closing would wait for a reader that is gone
            self.transport.abort()
        self._close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Inform the requests of the connection, and drop what refers to it."""
        if self not in self.connections:  # it was called before
            return
        self._head_ends()
        self._write_ends()
        if self._is_shed:
            self._descriptors.shed_one_closed()
        super().connection_lost(exc)
        if self._share is not None:
            self._share.count(len(self.connections))
        self._answer_transport.forget()  # it refers to the protocol, and answers to it
        if (cycle := self._answered()) is not None:  # uvicorn informs only the newest
            cycle.disconnected = True
            cycle.message_event.set()
        waiting = [cycle.scope for cycle, _ in self.pipeline]
        self.pipeline.clear()
        for scope in (self.scope, getattr(self.cycle, "scope", None), *waiting):
            if scope is not None:  # a reference cycle with the protocol
                scope.pop(WHOLE, None)  # type: ignore[typeddict-item]

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def _answered(self) -> RequestResponseCycle | None:
        """Return the request that is being answered, if any."""
        return None if self._running is None or self._running.response_complete else self._running

    def _wait_for_head(self) -> None:
        self._head_timer = self.loop.call_later(self._idle_seconds, self._head_is_late)

    def _head_is_late(self) -> None:
        if self._answered() is not None:  # nothing is read meanwhile: the head's time begins after
            self._wait_for_head()
        else:
            self._close()

    def _head_ends(self) -> None:
        self._in_head = False
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _write_ends(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None

    def _refuse_headers(self) -> None:
        self._refuse(431, "headers_too_large", "the request line and headers have too many bytes")

    def _refuse(self, status: int, code: str, detail: str) -> None:
        """Refuse a broken request, after those before it are answered, and read no more."""
        if self._last_words or self.transport.is_closing():  # it was refused already
            return
        self._head_ends()
        if not self._give_up_incomplete():
            self.transport.abort()
            return
        self._last_words = raw_problem(status, code, detail)
        if self._answered() is None:
            self.transport.write(self._last_words)
            self._hang_up()
        else:
            self.flow.pause_reading()

    def _hang_up(self) -> None:
        """Close, but if the client is still sending, only once it has stopped, or after `idle_seconds`.

        The system resets a connection that is closed upon bytes that nobody read, and the client may then
        never see the answer that it was sent. TLS, too, throws away what comes after its goodbye.
        """
        cycle: RequestResponseCycle | None = getattr(self, "cycle", None)  # None before the first
        sends = bool(self._last_words) or (cycle is not None and cycle.more_body)
        if not sends or self.pipeline or self._half_closed:
            self._close()
        elif self.scheme == "https":
            self.transport.close()
        elif not self.transport.is_closing():
            self._lingers = True
            self.transport.write_eof()
            self._head_ends()
            self._wait_for_head()
            self.flow.unparsed = b""
            self.flow.resume_reading()

    def _give_up_incomplete(self) -> bool:
        """End the request whose body has not come whole, if any; return False if its answer has begun."""
        cycle: RequestResponseCycle | None = getattr(self, "cycle", None)  # None before the first
        if cycle is None or not cycle.more_body or cycle.response_complete or cycle.disconnected:
            return True
        if cycle is not self._running:  # it waits for its turn
            self.pipeline.popleft()
        elif cycle.response_started:
            return False
        else:
            self._running = None
        cycle.disconnected = True
        cycle.message_event.set()
        return True


def bounded_protocol(
    max_header_bytes: int,
    idle_seconds: float,
    tls: ssl.SSLContext | None = None,
    share: Share | None = None,
) -> type[BoundedProtocol]:
    """Return a class of HTTP protocol like uvicorn's, with limits.

    A request's line and headers have at most `max_header_bytes`. Its head may take `idle_seconds` to arrive,
    the handshake of `tls` included, and a reader as long to read anything.
    """

    class LimitedProtocol(BoundedProtocol):
        _max_header_bytes = max_header_bytes
        _idle_seconds = idle_seconds
        _tls = tls
        _descriptors = Descriptors()
        _heads = KnownHeads()
        _share = share

    return LimitedProtocol
