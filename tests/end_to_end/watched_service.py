"""`python -m tests.end_to_end.watched_service FILE OPTIONS`: the service, with a watch of its event loop.

FILE holds the longest time between two turns of a task that always waits for its turn, as a double; a reader
sets it to 0 before. It is the shorter one of the time by the clock and the CPU time of this process. So the
work of other processes does not count, and other threads of this one, which may keep the interpreter from
the loop, count for no longer than the loop waited.
"""

from __future__ import annotations

import asyncio
import mmap
import struct
import sys
import time
from pathlib import Path
from typing import Any, Final

from service.process.command import run
from service.process.server import Server

_TURN_SECONDS: Final = 0.001


class HoldFile:
    """The file of a watch."""

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.exists():
            path.write_bytes(bytes(8))
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), 8)

    @property
    def seconds(self) -> float:
        """The longest that the loop was held since it was set."""
        return float(struct.unpack("d", self._map)[0])

    @seconds.setter
    def seconds(self, value: float) -> None:
        self._map[:] = struct.pack("d", value)


async def _watch(file: HoldFile) -> None:
    while True:
        cpu, clock = time.process_time(), time.perf_counter()
        await asyncio.sleep(_TURN_SECONDS)
        file.seconds = max(file.seconds, min(time.process_time() - cpu, time.perf_counter() - clock))


def _watched(file: HoldFile) -> Any:
    start = Server.startup

    async def startup(self: Server, sockets: Any = None) -> None:
        await start(self, sockets)
        self.watch = asyncio.create_task(_watch(file))  # type: ignore[attr-defined]

    return startup


if __name__ == "__main__":
    Server.startup = _watched(HoldFile(Path(sys.argv.pop(1))))  # type: ignore[method-assign]
    run()
