"""Logging: lines for people, or JSON for machines, to standard error."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import Any, Final

import orjson

_CONTEXT: Final = (
    "request_id", "trace_id", "method", "route", "status",
    "model", "version", "rows", "bytes", "milliseconds", "key",
)  # fmt: skip
"""The attributes of its request that a record may have, as `extra`. Nothing that a client sent is logged."""


def configure_logs(level: str, style: str, *, show_process: bool) -> None:
    """Log to standard error from that level on, in the style `text` or `json`."""
    handler = logging.StreamHandler()
    who = " %(processName)s" if show_process else ""
    text = logging.Formatter(f"%(asctime)s %(levelname)s{who} %(name)s: %(message)s")
    handler.setFormatter(JsonLines() if style == "json" else text)
    logging.basicConfig(level=level.upper(), handlers=[handler])


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
        return orjson.dumps(document, default=str).decode(errors="replace")
