"""Settings of glibc's allocator, so that it returns free memory to the system."""

from __future__ import annotations

import ctypes
import gc
import sys
from typing import Final

_TRIM_THRESHOLD: Final = -1
_MMAP_THRESHOLD: Final = -3
_ARENA_MAX: Final = -8
"""Numbers of glibc's settings, from its malloc.h."""


def keep_heaps_small() -> None:
    """Make glibc map large arrays one by one, and so unmap them when they are freed. Call it at the start.

    By default glibc keeps blocks in its heaps up to the size of the largest block that was ever freed, up to
    32 MiB. The arrays of all answers then lie there beside memory that stays in use, and under a mixed load
    resident memory grows for minutes.

    Nor does each thread get a heap of its own: versions are loaded in the threads of a pool, and every heap
    would grow to what the largest load needs, one after the other. Threads of Python take turns anyway.
    """
    _call_glibc("mallopt", _ARENA_MAX, 1)
    _call_glibc("mallopt", _MMAP_THRESHOLD, 2**18)  # in bytes, as the next one
    _call_glibc("mallopt", _TRIM_THRESHOLD, 2**20)


def return_free_memory() -> None:
    """Return memory that is free, but kept by the allocator, to the system."""
    gc.collect()
    _call_glibc("malloc_trim", 0)


def _call_glibc(name: str, *arguments: int) -> None:
    """Call a function of glibc; another C library may not have it, and then nothing is done."""
    if sys.platform == "linux" and (function := getattr(ctypes.CDLL(None), name, None)) is not None:
        function(*arguments)
