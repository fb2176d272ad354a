"""SIGINT (Ctrl-C), SIGTERM and SIGHUP (a terminal closes) as requests to stop after the current step."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

INTERRUPTED = 130
"""Exit status after Ctrl-C, by the convention of shells."""
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class InterruptFlag(threading.Event):
    """Is set by a signal."""

    exit_status = INTERRUPTED
    """The exit status of a process that such a signal ends, by the convention of shells."""


@contextmanager
def interrupt_flag(second_signal_kills: bool) -> Iterator[InterruptFlag]:
    """Return an event that these signals set; outside the main thread no signal is caught.

    SIGHUP stays ignored where it is: `nohup` asks for that.

    If `second_signal_kills`, a second signal has its usual effect. Under `torchrun` it must not: `torchrun`
    repeats the terminal's signal to its processes, and kills them itself after half a minute.
    """
    flag = InterruptFlag()
    if threading.current_thread() is not threading.main_thread():
        yield flag
        return
    previous = {number: signal.getsignal(number) for number in _SIGNALS}
    if previous[signal.SIGHUP] == signal.SIG_IGN:
        del previous[signal.SIGHUP]

    def restore() -> None:
        for number, handler in previous.items():
            signal.signal(number, handler)

    def handle(number: int, _frame: FrameType | None) -> None:
        flag.exit_status = 128 + number
        flag.set()
        if second_signal_kills:
            restore()

    for number in previous:
        signal.signal(number, handle)
    try:
        yield flag
    finally:
        restore()
