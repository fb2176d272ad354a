"""The transport of a connection as its answers see it, and its flow control."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.flow_control import FlowControl


class AnswerTransport:
    """The part of a connection's transport that answers use, with another way to close."""

    __slots__ = ("close", "is_closing", "write")

    def __init__(self, transport: Any, close: Callable[[], None]) -> None:
        self.write: Callable[[bytes], None] = transport.write
        self.is_closing: Callable[[], bool] = transport.is_closing
        self.close = close

    def forget(self) -> None:
        """Drop the reference to what closes it: the connection is lost."""
        self.close = lambda: None


class PipelineFlow(FlowControl):
    """Flow control that reads no more while requests that came are not parsed."""

    unparsed = b""

    def resume_reading(self) -> None:
        """Read on, unless there is something to parse first."""
        if not self.unparsed:
            super().resume_reading()
