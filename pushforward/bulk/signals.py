"""Signals that end bulk work: they wait for the part that is being made."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

_ENDING: Final = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def deferred() -> Iterator[None]:
    """Let SIGINT and SIGTERM take effect at the end of a `with` block; a second one takes effect at once.

    Their handlers raise. Amid a computation that would break its event loop, which reports what was
    interrupted as if it had failed. A thread other than the main one receives none, so nothing is done there.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers = {number: signal.getsignal(number) for number in _ENDING}
    received: list[tuple[int, FrameType | None]] = []

    def take(number: int, frame: FrameType | None) -> None:
        handler = handlers[signal.Signals(number)]
        if received and callable(handler):
            handler(number, frame)
        received.append((number, frame))

    for number, handler in handlers.items():
        if callable(handler):
            signal.signal(number, take)
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    if received:
        first, frame = received[0]
        handler = handlers[signal.Signals(first)]
        assert callable(handler)
        handler(first, frame)
