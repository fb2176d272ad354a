from __future__ import annotations

import socket
import subprocess
import sys
from contextlib import ExitStack

from . import process_tree

# a process with a child; each burns CPU, says so, and waits for the end of its standard input
BURNER = """
import os, sys, time
child = os.fork()
while time.process_time() < 0.3:
    pass
os.write(1, b"x")
sys.stdin.read()
if child:
    os.waitpid(child, 0)
"""


def test_a_tree_is_a_process_with_all_its_descendants_and_what_they_use() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", BURNER], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as burner:
        assert burner.stdout is not None
        assert burner.stdin is not None
        assert burner.stdout.read(2) == b"xx"
        found = process_tree.tree(burner.pid)
        used = process_tree.cpu_seconds(burner.pid)
        proportional = process_tree.proportional_megabytes(burner.pid)
        resident = process_tree.resident_megabytes(burner.pid)
        burner.stdin.close()
    assert found[0] == burner.pid
    assert len(found) == 2
    assert used >= 0.5
    assert 0 < proportional < resident


def test_every_socket_that_listens_on_a_shared_port_counts() -> None:
    with ExitStack() as stack:
        port = 0
        for expected in (1, 2, 3):
            one = stack.enter_context(socket.socket())
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            one.bind(("127.0.0.1", port))
            port = one.getsockname()[1]
            assert process_tree.listeners(port) == expected - 1
            one.listen()
            assert process_tree.listeners(port) == expected
