"""The limit of open files: idle connections are closed for new ones, and some descriptors kept for probes.

Without this, a connection at the limit would be closed as soon as it is made, and a probe with it. Where very
many files may be open, memory bounds the connections: each may hold a head that has not come whole.
"""

from __future__ import annotations

import contextlib
import heapq
import os
import resource
import sys
from collections.abc import Collection
from typing import Any, Final, Protocol

MOST_OPEN = 8_192
"""Most open files of a process, whatever the system allows: 270 MB of heads at 32 KiB each."""
_MOST_KEPT: Final = 128
"""Most descriptors that are kept: for probes, for connections that come at once, and for files and pipes."""
_KEPT_SHARE: Final = 8
"""The largest share of the descriptors that is kept, as its divisor: at most one in eight."""
_SHED_SHARE: Final = 4
"""The share of the kept ones that is freed at once, as its divisor: each time looks at all connections."""


_NEEDED: Final = 48
"""Descriptors that a start needs: Python and the listeners have about 16, loading models some more."""
_NEEDED_PER_REPLICA: Final = 5
"""Those of the supervisor for each replica, which inherits them."""


class Connected(Protocol):
    """A connection to a client."""

    is_surplus: bool
    """True if it took a descriptor that is kept: only probes are answered on it."""

    def idle_since(self) -> float | None:
        """Return the time on the event loop's clock since which there has been no request; None amid one."""

    def shed(self) -> None:
        """Close it; `Descriptors.shed_one_closed` is to be called then."""


def most_files() -> int:
    """Return the number of files that a process may open here; a huge one if there is no limit."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if limit == resource.RLIM_INFINITY else limit


def lack_of_files(replicas: int) -> str:
    """Return what is wrong if too few files may be open for a start, else an empty text."""
    limit = most_files()
    needed = _NEEDED + _NEEDED_PER_REPLICA * replicas
    if limit >= needed:
        return ""
    return (
        f"a process may open {limit} files here; the service needs at least {needed}, and one for each "
        "connection: raise the limit, as by `ulimit -n 1024`"
    )


class Descriptors:
    """Makes room for new connections of one event loop."""

    def __init__(self) -> None:
        limit = most_files()
        kept = min(_MOST_KEPT, limit // _KEPT_SHARE)
        self._most = min(MOST_OPEN, limit - kept)
        self._most_shed = max(1, kept // _SHED_SHARE)
        self._closing = 0
        """Number of connections that are being closed to make room."""
        self._others = len(os.listdir("/dev/fd"))

    def admit(self, client: Connected, all_clients: Collection[Any]) -> None:
        """Look at a new connection; if it is one too many, close those that were idle for the longest."""
        if self._open(len(all_clients)) - self._closing <= self._most:
            return
        idle = (
            (other.is_surplus, since, number, other)
            for number, other in enumerate(all_clients)
            if other is not client and (since := other.idle_since()) is not None
        )
        longest = heapq.nsmallest(self._most_shed, idle)
        shed = [other for is_surplus, *_, other in longest if not is_surplus]
        client.is_surplus = not shed
        for other in shed or [other for *_, other in longest[:1]]:
            self._closing += 1
            other.shed()

    def shed_one_closed(self) -> None:
        """Count one connection less that is being closed to make room."""
        self._closing -= 1

    def _open(self, clients: int) -> int:
        """Return the number of open descriptors; an estimate where Linux does not count them (before 6.2)."""
        with contextlib.suppress(OSError):
            if count := os.stat("/proc/self/fd").st_size:
                return count
        return clients + self._others
