"""The address a server listens on: bound once, told as a URL, and shared by the replicas of one service."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager


class CannotListen(Exception):
    """The address is taken, or is none of this machine's; the message says so to whoever starts a server."""


def bound(host: str, port: int, *, shared: bool = False) -> socket.socket:
    """A TCP socket bound to an IP address and a port (0: any free one), which does not listen yet.

    Other sockets of the same user may bind to the same address, and listen, if all of them are `shared`:
    Linux then hands every new connection to one of those that listen, by a hash of its two ends.

    Raises:
        CannotListen: some other socket is there, or the system does not allow it.
    """
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if listener.family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise CannotListen(
            f"cannot listen on {host}, port {port}: {error.strerror}; choose another --host or --port"
        ) from error
    return listener


@contextmanager
def held(host: str, port: int) -> Iterator[socket.socket]:
    """A shared socket that never listens: it keeps the address, and its port, for those that will.

    Raises:
        CannotListen: as `bound` does, also where a server listens that would share its port.
    """
    # bound first by a socket that shares with none: only that one is refused where another server listens
    with bound(host, port) as alone:
        holder = bound(host, alone.getsockname()[1], shared=True)
    with holder:
        yield holder


def url_of(listener: socket.socket) -> str:
    """The address of a bound socket, as a browser takes it."""
    host, port, *_ = listener.getsockname()
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
