"""Connections shared evenly among replicas.

Linux gives a new connection to a replica by a hash of its two ends. Of few connections that are kept, one
replica may get all, while another has nothing to do. So a replica that has more than another passes a new one
on to it, by a message that carries its descriptor (SCM_RIGHTS, unix(7)), before anything is read from it.

Connections may be idle, so none is passed to a replica that is much busier. And a replica with many passes
none: a hash spreads many well, and near the limit of open files a message may lose its descriptor.
"""

from __future__ import annotations

import asyncio
import mmap
import socket
import time
from collections.abc import Callable
from typing import Any, Final

import numpy as np

from service.process.descriptors import most_files

_MANY: Final = 2**40
"""The number of connections of a replica that takes none."""
_MESSAGES_BYTES: Final = 1
"""Memory for messages to a replica; the system makes it enough for a few. A replica that stands still gets no
more connections than these."""
_MOST_PASSING: Final = 256
"""A replica with more connections passes none; nor one with more than a quarter of the files it may open."""
_BUSY_SECONDS: Final = 1.0
"""The time over which it is measured how busy a replica is."""
_MUCH_BUSIER: Final = 1.5
_HARDLY_BUSY: Final = 0.1
"""A replica is much busier than another if it uses that many times its CPU, and this share of a core more."""


class Balance:
    """The connections and the load of each replica, and a socket to pass one to it; make it before the forks.

    Each number is written by one process, so that no change is lost. Shapes: R replicas.
    """

    def __init__(self, replicas: int) -> None:
        memory = mmap.mmap(-1, 8 * replicas * (replicas + 3))
        numbers = np.frombuffer(memory, np.float64).reshape(-1, replicas)
        self.open, self.taken, self.busy, self.passed = numbers[0], numbers[1], numbers[2], numbers[3:]
        """Connections of each replica (R,), those that it took from others (R,), the cores that it uses (R,),
        and the connections that replica r passed to each (R, R)."""
        self.open[:] = _MANY
        self.most_passing = min(_MOST_PASSING, most_files() // 4)
        self.ends = [socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in range(replicas)]
        """For each replica the ends at which its messages are sent and received."""
        for sender, receiver in self.ends:
            sender.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _MESSAGES_BYTES)
            sender.setblocking(False)
            receiver.setblocking(False)

    def close(self) -> None:
        """Close the sockets of this process."""
        for sender, receiver in self.ends:
            sender.close()
            receiver.close()


class Share:
    """The connections of one replica, numbered from 0, beside those of the others."""

    def __init__(self, balance: Balance, number: int) -> None:
        self._balance = balance
        self._number = number
        self._serves = False
        self._used = (0.0, 0.0)
        """CPU seconds, and the time, when it was last measured how busy the replica is."""

    def begin(self, connect: Callable[[socket.socket], None], connections: int) -> None:
        """Take connections from other replicas from now on, in the running event loop, and `connect` them.

        `connections` is the number of those that are there already.
        """
        self._serves = True
        self.count(connections)
        loop = asyncio.get_running_loop()
        loop.add_reader(self._receiver, self._take, connect)
        self._measure(loop)

    def note_cpu(self, cpu_seconds: float, now: float) -> None:
        """Note how busy the replica is, by the CPU seconds that its process has used at a time."""
        (used_seconds, noted_at), self._used = self._used, (cpu_seconds, now)
        self._balance.busy[self._number] = (cpu_seconds - used_seconds) / (now - noted_at)

    def leave(self) -> None:
        """Have other replicas pass no more connections to this one, which is about to end."""
        self._serves = False
        self._balance.open[self._number] = _MANY

    def end(self, connect: Callable[[socket.socket], None]) -> None:
        """Take the connections that were passed before it left, and no more."""
        self._take(connect)
        asyncio.get_running_loop().remove_reader(self._receiver)

    def hand_over(self) -> None:
        """Leave for a process that ended: pass what it has not taken to the others, or close it."""
        self.leave()
        self._take(self._give_up)
        self._balance.busy[self._number] = 0.0

    def count(self, connections: int) -> None:
        """Note how many connections the replica has."""
        if self._serves:
            self._balance.open[self._number] = connections

    def passes_on(self, client: Any, connections: int) -> bool:
        """Pass a new connection to the replica with the fewest, if this one has two more; return True then.

        `client` is its socket, which the caller then closes; `connections` is their number here, with it.
        """
        if connections > self._balance.most_passing:
            return False
        busy = self._balance.busy
        return self._pass(client, connections - 2, busy > _MUCH_BUSIER * busy[self._number] + _HARDLY_BUSY)

    def _pass(self, client: Any, most: float, busier: Any = False) -> bool:
        """Pass a connection to the replica with the fewest, at most `most`, that is not `busier`."""
        passed = self._balance.passed[self._number]
        connections = self._balance.open + self._balance.passed.sum(axis=0) - self._balance.taken
        connections[busier] = _MANY
        least = int(connections.argmin())
        if connections[least] > most:
            return False
        passed[least] += 1
        try:
            socket.send_fds(self._balance.ends[least][0], [b"c"], [client.fileno()])
        except OSError:  # it has not taken those before, or ends
            passed[least] -= 1
            return False
        return True

    def _give_up(self, client: socket.socket) -> None:
        with client:
            self._pass(client, _MANY - 1)

    def _measure(self, loop: asyncio.AbstractEventLoop) -> None:
        self.note_cpu(time.process_time(), loop.time())
        loop.call_later(_BUSY_SECONDS, self._measure, loop)

    @property
    def _receiver(self) -> socket.socket:
        return self._balance.ends[self._number][1]

    def _take(self, connect: Callable[[socket.socket], None]) -> None:
        """Connect all that was passed to this replica."""
        while True:
            try:
                _, descriptors, _, _ = socket.recv_fds(self._receiver, 1, 1)
            except BlockingIOError:
                return
            self._balance.taken[self._number] += 1
            for descriptor in descriptors:  # none if this process may open no more files
                client = socket.socket(fileno=descriptor)
                client.setblocking(False)
                connect(client)
