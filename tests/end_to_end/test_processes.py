"""Several replicas on one port: they answer as one, outlive each other's death, and stop together."""

import contextlib
import json
import os
import re
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import REPOSITORY
from tests.end_to_end.connections import connected
from tests.serving import RunningService, metric_sum, running_service
from tests.toy import publish_toy
from tests.waiting import wait_until

pytestmark = pytest.mark.living

MANY = 24
"""Connections that the kernel spreads over two replicas; all go to the same one in 1 of 2^23 runs."""
SAMPLE = "/v1/models/toy-vae/sample"
BODY = json.dumps({"seed": 7}).encode()


@pytest.fixture(scope="module")
def two(toys: Path) -> Iterator[RunningService]:
    """Two replicas, which the tests leave alive, but not as the same processes."""
    with running_service(toys, "--metrics-port", "0", processes=2) as service:
        yield service


def asked(service: RunningService, method: str, path: str, body: bytes | None = None) -> bytes:
    """The answer to one request on a connection of its own."""
    connection = connected(service)
    connection.request(method, path, body)
    response = connection.getresponse()
    content = response.read()
    connection.close()
    assert response.status == 200, content
    return content


def begun(service: RunningService) -> list[HTTPConnection]:
    """Send many requests, each on its own connection, without the end of their bodies."""
    connections = [connected(service) for _ in range(MANY)]
    for connection in connections:
        connection.putrequest("POST", SAMPLE)
        connection.putheader("content-length", str(len(BODY)))
        connection.endheaders(BODY[:-1])
    all_and_the_asking_one = MANY + 1
    wait_until(lambda: counted(service, "pushforward_inflight_requests") == all_and_the_asking_one)
    return connections


def finished(connection: HTTPConnection) -> bytes | None:
    """The answer to a request that was begun, or None if its replica is gone."""
    try:
        connection.send(BODY[-1:])
        response = connection.getresponse()
        content = response.read()
    except ConnectionError:
        return None
    finally:
        connection.close()
    assert response.status == 200, content
    return content


def counted(service: RunningService, name: str, **labels: str) -> float:
    """Return the sum of a metric's samples with these labels, as one of the replicas reports it."""
    return metric_sum(asked(service, "GET", "/metrics").decode(), name, **labels)


def answered(service: RunningService) -> float:
    """Return the number of POSTs of samples that have been answered, as one of the replicas reports it."""
    return counted(
        service, "pushforward_http_requests_total", route="/v1/models/{model}/sample", method="POST"
    )


def process_ids(service: RunningService) -> dict[str, int]:
    """The process that is a replica now, by the replica's number."""
    log = "".join(service.lines)
    return {number: int(pid) for number, pid in re.findall(r"replica-(\d).*server process \[(\d+)\]", log)}


def test_every_replica_gives_the_same_bytes_for_the_same_seed_and_tells_what_all_have_counted(
    two: RunningService,
) -> None:
    before = answered(two)
    assert len({asked(two, "POST", SAMPLE, BODY) for _ in range(MANY)}) == 1
    wait_until(lambda: answered(two) == before + MANY)  # an answer is counted just after it was sent
    assert {answered(two) for _ in range(MANY)} == {before + MANY}
    assert counted(two, "pushforward_rows_total", operation="sample") == before + MANY


def connections_of(service: RunningService) -> list[int]:
    """Return the number of connections that each replica has."""
    port = urlsplit(service.url).port
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    established = {
        f"socket:[{line[9]}]" for line in lines if line[1].endswith(f":{port:04X}") and line[3] == "01"
    }

    def held(process_id: int) -> set[str]:
        found = set()
        for descriptor in Path(f"/proc/{process_id}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                found.add(os.readlink(descriptor))
        return found

    return [len(established & held(process_id)) for process_id in process_ids(service).values()]


def test_each_replica_has_as_many_connections_as_the_others(two: RunningService) -> None:
    def apart() -> int:
        shares = connections_of(two)
        return max(shares) - min(shares)

    def answered_alike(connections: list[HTTPConnection]) -> bool:
        for connection in connections:
            connection.request("GET", "/healthz")
        return len({connection.getresponse().read() for connection in connections}) == 1

    def were_even() -> bool:
        """Open connections, and more once every second one is closed; False if some are not shared evenly."""
        connections = [connected(two) for _ in range(2 * MANY)]
        one_by_one, at_once = connections[:MANY], connections[MANY:]
        try:
            for connection in one_by_one:
                assert answered_alike([connection])
                if apart() > 1:
                    return False
            for connection in one_by_one[::2]:
                connection.close()
            wait_until(lambda: sum(connections_of(two)) == MANY // 2)
            assert answered_alike(at_once)
            return apart() <= 4  # two replicas may look at once
        finally:
            for connection in connections:
                connection.close()
            wait_until(lambda: sum(connections_of(two)) == 0)

    wait_until(were_even)  # not while one replica is much busier, as after its start


def test_the_replicas_share_the_metrics_port_and_each_tells_what_all_have_counted(
    two: RunningService,
) -> None:
    two.wait_for(r"(?s)(metrics on .*){2}")
    (url,) = set(re.findall(r"metrics on (\S+)", "".join(two.lines)))
    before = answered(two)
    for _ in range(8):
        asked(two, "POST", SAMPLE, BODY)

    def on_that_port() -> float:
        route, code = "/v1/models/{model}/sample", "200"
        requests = "pushforward_http_requests_total"
        return metric_sum(httpx.get(url).text, requests, route=route, method="POST", code=code)

    # what another replica counted in the last quarter of a second is late
    wait_until(lambda: on_that_port() >= before + 8)
    assert {on_that_port() for _ in range(8)} == {before + 8}


def test_the_parent_has_no_thread_that_its_forks_would_lack(two: RunningService) -> None:
    assert "Threads:\t1\n" in Path(f"/proc/{two.process.pid}/status").read_text()


def test_two_replicas_expose_what_one_process_does_and_no_row_more_may_wait(
    two: RunningService, service: RunningService
) -> None:
    def families(running: RunningService) -> dict[str, tuple[str, str]]:
        text = asked(running, "GET", "/metrics").decode()
        return {one.name: (one.type, one.documentation) for one in text_string_to_metric_families(text)}

    asked(service, "POST", SAMPLE, BODY)
    asked(two, "POST", SAMPLE, BODY)
    of_one = {name: kind for name, kind in families(service).items() if not name.endswith("_created")}
    assert families(two) == of_one
    for name in ("queue_capacity_items", "model_loaded", "provider_active", "draining", "build_info"):
        labels = {"model": "toy-vae"} if name in ("queue_capacity_items", "model_loaded") else {}
        name = f"pushforward_{name}"
        assert counted(two, name, **labels) == counted(service, name, **labels)


def test_the_death_of_a_replica_harms_no_other_answer_and_it_is_restarted(two: RunningService) -> None:
    expected = {asked(two, "POST", SAMPLE, BODY) for _ in range(MANY)}
    connections, before = begun(two), answered(two)
    victim, other = process_ids(two).items()
    os.kill(victim[1], signal.SIGKILL)
    answers = [finished(connection) for connection in connections]
    kept = [answer for answer in answers if answer is not None]
    assert 0 < len(kept) < MANY
    assert set(kept) == expected
    two.wait_for(f"replica {victim[0]} ended by SIGKILL; it is restarted in 0 s")
    two.wait_for(f"replica {victim[0]} serves again")
    assert counted(two, "pushforward_replica_restarts_total") == 1
    wait_until(lambda: counted(two, "pushforward_inflight_requests") <= 1)
    wait_until(lambda: answered(two) >= before + len(kept))
    assert answered(two) == before + len(kept)
    os.kill(other[1], signal.SIGKILL)
    two.wait_for(f"replica {other[0]} ended by SIGKILL")
    assert {asked(two, "POST", SAMPLE, BODY)} == expected  # of the replica that took the place of the first
    two.wait_for(f"replica {other[0]} serves again")


def test_a_replica_that_starts_again_without_models_leaves_requests_to_the_others(
    tmp_path: Path,
) -> None:
    publish_toy(tmp_path / "models")
    with running_service(tmp_path / "models", "--poll-seconds", "0.2", processes=2) as service:
        (tmp_path / "models").rename(tmp_path / "aside")
        victim, pid = process_ids(service).popitem()
        os.kill(pid, signal.SIGKILL)
        service.wait_for("no connections are taken before this process is ready; the others answer")
        assert counted(service, "pushforward_ready") == 1
        wait_until(lambda: counted(service, "pushforward_unready_processes") == 1)
        assert len({asked(service, "POST", SAMPLE, BODY) for _ in range(MANY)}) == 1
        (tmp_path / "aside").rename(tmp_path / "models")
        service.wait_for(f"replica {victim} serves again")


def test_connections_passed_to_a_replica_that_is_killed_before_it_takes_them_do_not_wait_for_its_start(
    tmp_path: Path,
) -> None:
    publish_toy(tmp_path / "models")
    with running_service(tmp_path / "models", processes=2) as service:
        expected = asked(service, "POST", SAMPLE, BODY)
        _, pid = process_ids(service).popitem()
        os.kill(pid, signal.SIGSTOP)
        connections = [connected(service) for _ in range(MANY)]
        for connection in connections:
            connection.request("POST", SAMPLE, BODY[:-1], {"content-length": str(len(BODY))})
        (tmp_path / "models").rename(tmp_path / "aside")
        os.kill(pid, signal.SIGKILL)
        service.wait_for("no connections are taken before this process is ready; the others answer")
        assert {finished(connection) for connection in connections} == {expected, None}


def test_a_replica_is_replaced_where_a_broken_model_keeps_every_replica_from_being_ready(
    tmp_path: Path,
) -> None:
    publish_toy(tmp_path)
    (tmp_path / "broken/1").mkdir(parents=True)
    (tmp_path / "broken/1/manifest.json").write_text("{}")
    with running_service(tmp_path, processes=2) as service:
        victim, pid = process_ids(service).popitem()
        os.kill(pid, signal.SIGKILL)
        service.wait_for(f"replica {victim} serves again")
        assert len({asked(service, "POST", SAMPLE, BODY) for _ in range(MANY)}) == 1


def test_a_replica_that_finds_no_room_to_start_leaves_requests_to_the_others_and_is_tried_again(
    toys: Path,
) -> None:
    with running_service(toys, processes=2) as service:
        victim, pid = process_ids(service).popitem()
        supervisor = service.process.pid
        _, most = resource.prlimit(supervisor, resource.RLIMIT_NOFILE)
        resource.prlimit(supervisor, resource.RLIMIT_NOFILE, (3, most))
        os.kill(pid, signal.SIGKILL)
        service.wait_for(f"replica {victim} could not be started: Too many open files; it is restarted in")
        assert len({asked(service, "POST", SAMPLE, BODY) for _ in range(MANY)}) == 1
        resource.prlimit(supervisor, resource.RLIMIT_NOFILE, (most, most))
        service.wait_for(f"replica {victim} serves again")


def test_a_replica_that_was_stopped_is_replaced_and_the_others_are_not(toys: Path) -> None:
    with running_service(toys, "--silent-seconds", "2", processes=2) as service:
        expected = asked(service, "POST", SAMPLE, BODY)
        connections, (victim, other) = begun(service), process_ids(service).items()
        os.kill(victim[1], signal.SIGSTOP)
        service.wait_for(f"replica {victim[0]} stood still for 2 s, and was killed; it is restarted in 0 s")
        answers = [finished(connection) for connection in connections]
        assert set(answers) == {expected, None}  # its connections were closed
        service.wait_for(f"replica {victim[0]} serves again")
        assert {asked(service, "POST", SAMPLE, BODY) for _ in range(MANY)} == {expected}
        assert counted(service, "pushforward_replica_restarts_total") == 1
        assert process_ids(service)[other[0]] == other[1]


def test_a_replica_whose_computation_does_not_end_is_replaced_and_the_others_are_not(tmp_path: Path) -> None:
    """The draws in one batch take many times the deadline of half a second."""
    (tmp_path / "fashion-vae").symlink_to(REPOSITORY / "models" / "fashion-vae")
    options = "--silent-seconds", "1", "--deadline-seconds", "0.5", "--max-batch-rows", "65536"
    score = json.dumps({"inputs": np.zeros((5, 1, 28, 28)).tolist(), "draws": 5_000}).encode()
    with running_service(tmp_path, *options, processes=2) as service:
        before, connection = process_ids(service), connected(service)
        connection.request("POST", "/v1/models/fashion-vae/score", score)
        assert connection.getresponse().status == 504
        told = service.wait_for(
            r"computations of replica (\d) failed, or did not end, for 1 s, and it was stopped"
        )
        service.wait_for(f"replica {told[1]} serves again")
        connection.close()
        after = process_ids(service)
        assert [number for number in after if after[number] != before[number]] == [told[1]]
        assert counted(service, "pushforward_replica_restarts_total") == 1
        assert {asked(service, "GET", "/healthz") for _ in range(MANY)} == {b'{"status":"ok","detail":""}'}


@pytest.mark.parametrize(
    ("send", "number"),
    [(os.kill, signal.SIGTERM), (os.killpg, signal.SIGINT), (os.killpg, signal.SIGTERM)],
    ids=["SIGTERM to the parent", "Ctrl-C in a terminal", "SIGTERM to the whole group"],
)
def test_told_to_stop_all_replicas_answer_what_is_in_flight_and_the_service_exits_0(
    toys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, send: Callable[[int, int], None], number: int
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with running_service(toys, processes=2) as service:
        expected = asked(service, "POST", SAMPLE, BODY)
        connections = begun(service)
        send(service.process.pid, number)
        service.wait_for(r"(?s)Shutting down.*Shutting down")
        assert {finished(connection) for connection in connections} == {expected}
        assert service.process.wait(timeout=60) == 0
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("processes", [1, 2])
def test_a_service_whose_terminal_ends_drains_though_it_is_told_twice(
    toys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, processes: int
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with running_service(toys, "--drain-delay-seconds", "600", processes=processes) as service:
        for _ in range(2):
            os.killpg(service.process.pid, signal.SIGHUP)
            wait_until(lambda: httpx.get(f"{service.url}/readyz").json()["status"] == "draining")
        service.process.terminate()
        assert service.process.wait(timeout=60) == 0
    assert not list(tmp_path.iterdir())


def test_told_twice_to_stop_the_service_ends_at_once(toys: Path) -> None:
    with running_service(toys, "--drain-seconds", "3600", processes=2) as service:
        connections = begun(service)
        service.process.terminate()
        service.wait_for(r"(?s)Shutting down.*Shutting down")
        service.process.terminate()
        assert service.process.wait(timeout=60) == 0
        assert {finished(connection) for connection in connections} == {None}


def test_replicas_end_when_their_parent_is_killed(
    toys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))  # a killed parent cannot remove its folder
    with running_service(toys, processes=2) as service:
        service.process.kill()
        service.wait_until_all_are_gone()
        with pytest.raises(ConnectionRefusedError):
            asked(service, "GET", "/healthz")


@pytest.mark.parametrize("processes", ["1", "2"])
def test_a_port_in_use_is_refused_in_one_line_even_where_it_could_be_shared(
    two: RunningService, toys: Path, processes: str
) -> None:
    port = str(urlsplit(two.url).port)
    options = ["--models", str(toys), "--port", port, "--processes", processes]
    second = subprocess.run([sys.executable, "-m", "service", *options], capture_output=True, text=True)
    assert second.returncode == 2
    assert f"cannot listen on 127.0.0.1, port {port}" in second.stderr
    assert len(second.stderr.splitlines()) == 1


@pytest.mark.parametrize("processes", [1, 2])
def test_a_grpc_port_that_another_service_shares_is_refused_as_the_http_port_is(
    toys: Path, processes: int
) -> None:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        second = RunningService(toys, "--grpc-port", str(port), processes=processes)
        assert second.process.wait(timeout=60) == 2
        second.wait_until_all_are_gone()
        second.stop()
    log = "".join(second.lines)
    assert f"cannot listen on 127.0.0.1, port {port}" in log
    assert "Traceback" not in log


def test_what_no_replica_can_do_is_said_once(toys: Path) -> None:
    if Path("/dev/nvidiactl").exists():
        pytest.skip("this machine has an NVIDIA device")
    service = RunningService(toys, "--device", "cuda", processes=2)
    assert service.process.wait(timeout=60) == 2
    service.wait_until_all_are_gone()
    service.stop()
    assert "".join(service.lines).count("the device asked for is cuda") == 1
