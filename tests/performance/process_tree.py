"""The resources of a process and all its descendants together, as Linux counts them under `/proc`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_PROC: Final = Path("/proc")
_LISTENING: Final = "0A"
"""The state of a listening socket in /proc/net/tcp."""


def tree(root: int) -> list[int]:
    """The ids of a process and of all its descendants that live."""
    children: dict[int, list[int]] = {}
    for process, parent in _parents():
        children.setdefault(parent, []).append(process)
    found = [root]
    for process in found:  # which grows meanwhile
        found += children.get(process, [])
    return found


def cpu_seconds(root: int) -> float:
    """CPU seconds, user's and system's, that the living processes of a tree have used so far."""
    ticks = 0
    for process in tree(root):
        fields = _stat(process)
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def resident_megabytes(root: int) -> float:
    """Resident memory of a tree in 10^6 bytes; pages that processes share count for each."""
    pages = sum(int((_PROC / str(process) / "statm").read_text().split()[1]) for process in tree(root))
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def proportional_megabytes(root: int) -> float:
    """Proportional memory (PSS) of a tree in 10^6 bytes: a page of n processes counts 1/n for each."""
    kibibytes = 0
    for process in tree(root):
        lines = (_PROC / str(process) / "smaps_rollup").read_text().splitlines()
        kibibytes += next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return kibibytes * 1024 / 1e6


def listeners(port: int) -> int:
    """Return the number of sockets that listen on a TCP port; processes that share it have one each."""
    lines = (_PROC / "net" / "tcp").read_text().splitlines()[1:]
    sockets = ((fields[1].rpartition(":")[2], fields[3]) for fields in map(str.split, lines))
    return sum(int(number, 16) == port and state == _LISTENING for number, state in sockets)


def _parents() -> Iterator[tuple[int, int]]:
    for folder in _PROC.iterdir():
        if folder.name.isdigit():
            try:
                yield int(folder.name), int(_stat(int(folder.name))[1])
            except (FileNotFoundError, ProcessLookupError):  # it has just ended
                continue


def _stat(process: int) -> list[str]:
    """The fields after the name, which may itself hold spaces and brackets."""
    return (_PROC / str(process) / "stat").read_text().rpartition(")")[2].split()
