"""Ctrl-C, or an order to end, as a request to stop at the next good moment."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells report it."""
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def interrupt_flag(again_kills: bool) -> Iterator[threading.Event]:
    """An event set by SIGINT or SIGTERM. Outside the main thread nothing is caught.

    With `again_kills` a second signal acts as usual. `torchrun` passes on what the terminal has sent its
    processes already, so there it must not; and it kills them itself after half a minute.
    """
    flag = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield flag
        return
    previous = {number: signal.getsignal(number) for number in _SIGNALS}

    def restore() -> None:
        for number, handler in previous.items():
            signal.signal(number, handler)

    def handle(_number: int, _frame: FrameType | None) -> None:
        flag.set()
        if again_kills:
            restore()

    for number in _SIGNALS:
        signal.signal(number, handle)
    try:
        yield flag
    finally:
        restore()
