"""TCP ports for servers that cannot say which one they took."""

from __future__ import annotations

import socket


def free_ports(count: int) -> list[int]:
    """Return different ports of 127.0.0.1 on which nothing listens now."""
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports: list[int] = [listener.getsockname()[1] for listener in listeners]
    for listener in listeners:
        listener.close()
    return ports


def free_port() -> int:
    """Return a port of 127.0.0.1 on which nothing listens now."""
    return free_ports(1)[0]
