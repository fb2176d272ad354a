import asyncio
import contextlib
import socket
import subprocess
import sys
import threading

import httpx
import pytest

from service.observe.metrics import Metrics
from service.process.ports import bind_socket, serve_metrics, url_of


@pytest.mark.anyio
async def test_metrics_are_told_while_the_event_loop_is_stuck() -> None:
    metrics, listener = Metrics(), bind_socket("127.0.0.1", 0)
    serve_metrics(metrics, listener)
    settling = asyncio.create_task(metrics.flush_periodically())
    await asyncio.sleep(0)
    metrics.ready.set(1)
    # this very call keeps the loop from running
    text = httpx.get(f"{url_of(listener)}/metrics", timeout=30).text  # noqa: ASYNC210
    settling.cancel()
    assert "pushforward_ready 1.0" in text


def test_a_connection_that_says_nothing_keeps_no_scrape_from_its_answer() -> None:
    metrics, listener = Metrics(), bind_socket("::1", 0)
    serve_metrics(metrics, listener)
    with socket.create_connection(listener.getsockname()[:2]) as idle:
        idle.sendall(b"GET /metrics HTTP/1.1\r\n")
        assert httpx.get(f"{url_of(listener)}/metrics", timeout=30).status_code == 200


def test_the_metrics_port_names_no_software_answers_head_and_refuses_post() -> None:
    metrics, listener = Metrics(), bind_socket("127.0.0.1", 0)
    serve_metrics(metrics, listener)
    url = f"{url_of(listener)}/metrics"
    got, head = httpx.get(url, timeout=30), httpx.head(url, timeout=30)
    posted = httpx.post(url, timeout=30)
    assert "server" not in got.headers
    assert "server" not in posted.headers
    assert (posted.status_code, posted.headers["allow"], posted.content) == (405, "GET, HEAD", b"")
    assert (head.status_code, head.content, head.headers["content-type"]) == (
        200,
        b"",
        got.headers["content-type"],
    )


def test_connections_that_say_nothing_take_a_bounded_number_of_threads() -> None:
    metrics, listener = Metrics(), bind_socket("127.0.0.1", 0)
    serve_metrics(metrics, listener)
    before = threading.active_count()
    with contextlib.ExitStack() as idle:
        connections = [
            idle.enter_context(socket.create_connection(listener.getsockname()[:2])) for _ in range(40)
        ]
        refused = [connection.recv(1) for connection in connections[:20]]
        assert refused == [b""] * 20
        assert threading.active_count() - before <= 16


def test_connections_that_say_nothing_make_room_for_scrapes() -> None:
    listener = bind_socket("127.0.0.1", 0)
    serve_metrics(Metrics(), listener)
    with contextlib.ExitStack() as idle:
        for number in range(100):
            connection = idle.enter_context(socket.create_connection(listener.getsockname()[:2]))
            if number % 2:
                connection.sendall(b"GET /metrics HTTP/1.1\r\na: ")
        for _ in range(20):
            assert httpx.get(f"{url_of(listener)}/metrics").status_code == 200


WITHOUT_THREADS = """
import os, resource, socket
import httpx
from service.observe.metrics import Metrics
from service.process.ports import bind_socket, serve_metrics, url_of

listener = bind_socket("127.0.0.1", 0)
serve_metrics(Metrics(), listener)
url = f"{url_of(listener)}/metrics"
client = httpx.Client(timeout=30)
client.get(url)  # which imports and reads what the next user may not
if os.geteuid() == 0:
    os.setuid(54_321)  # root may have any number of threads
_, most = resource.getrlimit(resource.RLIMIT_NPROC)
resource.setrlimit(resource.RLIMIT_NPROC, (1, most))
for _ in range(20):
    with socket.create_connection(listener.getsockname()) as connection:
        assert connection.recv(1) == b""
resource.setrlimit(resource.RLIMIT_NPROC, (most, most))
print(client.get(url).status_code)
"""


def test_scrapes_are_answered_again_once_there_are_threads_for_them() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT_THREADS], capture_output=True, text=True)
    assert done.stdout == "200\n", done.stderr
