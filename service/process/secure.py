"""uvicorn's HTTP protocol with TLS that begins on connections which are there already.

So connections whose handshake does not end are known, and closed as all others.
"""

from __future__ import annotations

import ssl
from collections.abc import Coroutine
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from service.process.transport import AnswerTransport, PipelineFlow

_FAREWELL_SECONDS: Final = 0.1
"""Interval between looks whether all is sent to a client that TLS says goodbye to."""


class SecureProtocol(HttpToolsProtocol):
    """The protocol of one connection, with TLS if the class has a context for it."""

    _tls: ssl.SSLContext | None
    _idle_seconds: float
    _answer_transport: AnswerTransport
    flow: PipelineFlow
    _wire: Any
    """The transport below TLS; the same as `transport` if there is no TLS."""

    def connection_made(self, transport: Any) -> None:
        """Begin TLS, if there is any; no byte of a request has come yet."""
        super().connection_made(transport)
        self._wire = transport
        self._speak_by(transport)
        if self._tls is not None:
            self._begin_tls(self._tls)

    def _speak_by(self, transport: Any) -> None:
        self.transport, self.flow = transport, PipelineFlow(transport)
        self._answer_transport = AnswerTransport(transport, self._hang_up)

    def _begin_tls(self, context: ssl.SSLContext) -> None:
        """Speak TLS from the first byte on: begun in a task, it would come after bytes that are there."""
        starting = self.loop.start_tls(
            self._wire, self, context, server_side=True, ssl_shutdown_timeout=self._idle_seconds
        )
        handshake = starting.send(None)
        handshake.add_done_callback(lambda _: self._tls_began(starting))

    def _tls_began(self, starting: Coroutine[Any, Any, Any]) -> None:
        """Go on with TLS; no byte of a request has come yet."""
        error: OSError | None = None
        try:
            starting.send(None)
        except StopIteration as done:
            self._speak_by(done.value)
        except OSError as failure:  # also what ssl raises
            error = failure
        self.scheme = "https"
        if self._wire.is_closing():  # amid a handshake, nobody else says so
            self.connection_lost(error)

    def shutdown(self) -> None:
        """Close the connection if it is idle, else after its answer: the server ends."""
        super().shutdown()
        if self.transport.is_closing():
            self._close()

    def _close(self) -> None:
        """Close the connection once all is sent.

        TLS would wait for the client to say goodbye too. One that keeps the connection for later does not
        look at it, and would hold a descriptor, and the end of the process, for as long as it may.
        """
        self.transport.close()
        if self.scheme == "https" and self in self.connections:
            if self.transport.get_write_buffer_size() or self._wire.get_write_buffer_size():
                self.loop.call_later(_FAREWELL_SECONDS, self._close)
            else:
                self.transport.abort()

    def _hang_up(self) -> None:
        """Close the connection after its last answer."""
        self._close()
