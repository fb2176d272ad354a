"""Memory that an answer or a version held goes back to the system, as far as glibc can be told to."""

from __future__ import annotations

import ctypes
import gc
import sys
from typing import Final

_TRIM_THRESHOLD: Final = -1
_MMAP_THRESHOLD: Final = -3
"""Names of glibc's settings, from its malloc.h."""
_MAPPED_FROM_BYTES: Final = 2**18
_KEPT_FREE_BYTES: Final = 2**20


def keep_heaps_small() -> None:
    """Has large arrays mapped one by one, and so unmapped when they are freed. Call it before any is made.

    Left alone, glibc takes the size of the largest block that was ever freed, up to 32 MiB, for what belongs
    into its heaps. The arrays of all answers then lie there beside one another and beside what stays, and
    under a mixed load resident memory creeps up for minutes.
    """
    _call_glibc("mallopt", _MMAP_THRESHOLD, _MAPPED_FROM_BYTES)
    _call_glibc("mallopt", _TRIM_THRESHOLD, _KEPT_FREE_BYTES)


def give_back() -> None:
    """Has the allocator return what is free, which it would keep for itself."""
    gc.collect()
    _call_glibc("malloc_trim", 0)


def _call_glibc(name: str, *arguments: int) -> None:
    """Where there is another library, which lacks the function, there is nothing to be told."""
    if sys.platform == "linux":
        function = getattr(ctypes.CDLL(None), name, None)
        if function is not None:
            function(*arguments)
