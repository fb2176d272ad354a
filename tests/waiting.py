"""Waits for a state that another process or thread brings about, without keeping a core busy."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

POLL_SECONDS = 0.005

T = TypeVar("T")


def wait_until(look: Callable[[], T], *, seconds: float = 60) -> T:
    """Calls `look` every 5 ms and returns its first true answer; fails after so many seconds."""
    deadline = time.monotonic() + seconds
    while not (seen := look()):
        if time.monotonic() >= deadline:
            raise TimeoutError(f"still {seen!r} after {seconds:g} s")
        time.sleep(POLL_SECONDS)
    return seen
