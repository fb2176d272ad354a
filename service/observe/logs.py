"""Logging: lines for people, or JSON for machines, to standard error."""

from __future__ import annotations

import json
import logging
import select
import sys
from datetime import UTC, datetime
from typing import Any, Final, TextIO

_CONTEXT: Final = (
    "request_id", "trace_id", "method", "route", "status",
    "model", "version", "rows", "bytes", "milliseconds", "key",
)  # fmt: skip
"""The attributes of its request that a record may have, as `extra`. Nothing that a client sent is logged."""
_PATIENCE_SECONDS: Final = 0.05
"""Longest wait for a log that is not read, which is a wait of the event loop."""
_PIECE_CHARACTERS: Final = select.PIPE_BUF // 4
"""Most characters that a pipe surely takes if it takes any, each of four bytes at most. A line that fits is
written as one, so that lines of several processes do not mix."""


def configure_logs(level: str, style: str, *, show_process: bool) -> None:
    """Log to standard error from that level on, in the style `text` or `json`."""
    handler = PatientHandler()
    who = " %(processName)s" if show_process else ""
    text = logging.Formatter(f"%(asctime)s %(levelname)s{who} %(name)s: %(message)s")
    handler.setFormatter(JsonLines() if style == "json" else text)
    logging.basicConfig(level=level.upper(), handlers=[handler])


class PatientHandler(logging.Handler):
    """Writes to standard error, and loses lines rather than wait for long where nothing reads them.

    A pipe that is full keeps its writer until something reads it, and with it the event loop and all probes.
    """

    def __init__(self) -> None:
        super().__init__()
        self._lost = 0
        self._is_torn = False
        """True if the last line was written in part."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record, after a line on the number of lost ones if any are; or lose it."""
        try:
            if self._lost and _is_read(sys.stderr, 0):
                text, lost = "%d lines of the log are lost, because nothing read it", self._lost
                sys.stderr.write("\n" * self._is_torn)
                self._lost, self._is_torn = 0, False
                self._write(logging.LogRecord(__name__, logging.WARNING, __file__, 0, text, (lost,), None))
            if not self._lost:
                self._write(record)
            else:
                self._lost += 1
        except Exception:
            self.handleError(record)

    def _write(self, record: logging.LogRecord) -> None:
        text = self.format(record) + "\n"
        fits = len(text.encode(errors="replace")) <= select.PIPE_BUF
        size = len(text) if fits else _PIECE_CHARACTERS
        for start in range(0, len(text), size):
            if not _is_read(sys.stderr, _PATIENCE_SECONDS):
                self._lost, self._is_torn = self._lost + 1, start > 0
                return
            sys.stderr.write(text[start : start + size])
            sys.stderr.flush()


def _is_read(stream: TextIO, seconds: float) -> bool:
    """Return True if a stream takes a piece within so many seconds."""
    try:
        number = stream.fileno()
    except (AttributeError, OSError, ValueError):  # none, or no file
        return True
    looked = select.poll()
    looked.register(number, select.POLLOUT)
    return bool(looked.poll(1e3 * seconds))


class JsonLines(logging.Formatter):
    """Formats a record as a line of JSON: time (RFC 3339, UTC), level, logger, process, message, context."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without its line end."""
        time = datetime.fromtimestamp(record.created, UTC)
        document: dict[str, Any] = {
            "time": time.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "process": record.processName,
            "message": record.getMessage(),
        }
        document |= {name: getattr(record, name) for name in _CONTEXT if hasattr(record, name)}
        if record.exc_info:
            document["exception"] = self.formatException(record.exc_info)
        # names of files may be no Unicode, of which standard error writes an escape that JSON has too
        return json.dumps(document, default=str, ensure_ascii=False, separators=(",", ":"))
