"""The values of the replicas' metrics: nothing else mixes into them, and nothing of them is left behind."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from service.lifecycle.trial import try_in_subprocess
from service.observe.shared_values import shared_folder
from service.settings import Settings
from tests.toy import publish_toy

pytestmark = pytest.mark.anyio


async def test_a_trial_leaves_no_values_beside_those_of_the_replicas(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version, values = publish_toy(tmp_path / "models"), tmp_path / "values"
    values.mkdir()
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(values))  # as a replica does
    async with asyncio.timeout(60):
        tried = await try_in_subprocess([version], "cpu", Settings(models=tmp_path / "models"))
    assert tried == (1, None)
    assert list(values.iterdir()) == []


KILLED = """
import os, signal, sys
from service.observe.shared_values import shared_folder

with shared_folder() as folder:
    (folder / "counter_1.db").touch()
    if os.fork():
        os.kill(os.getpid(), signal.SIGKILL)
    print(folder, flush=True)
    sys.stdin.read()
    os._exit(0)
"""


def test_the_folder_of_a_killed_service_is_removed_once_its_last_replica_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    foreign = tmp_path / "pushforward-metrics-mine"
    foreign.mkdir()
    (foreign / "notes.txt").touch()
    command = [sys.executable, "-c", KILLED]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        left = Path(process.stdout.readline().strip())
        process.wait()
        with shared_folder():
            assert (left / "counter_1.db").exists()
        process.stdin.close()
        process.stdout.read()  # until the replica has ended
    with shared_folder() as own:
        assert {own, foreign} == set(tmp_path.iterdir())
    assert not own.exists()
    assert (foreign / "notes.txt").exists()


ON_A_FULL_DISK = """
mount -t tmpfs -o size=512k small "$1" && exec "$0" -c '
import sys
from pathlib import Path
from service.observe.metrics import Metrics
from service.observe.shared_values import share_values

folder = Path(sys.argv[1])
share_values(folder, 1)
metrics = Metrics(folder)
uses = metrics.key_uses.labels("unnamed")
try:
    (folder / "ballast").write_bytes(bytes(2**20))
except OSError as error:
    print(error.strerror)
count = 0
try:
    while True:
        metrics.key_uses.labels(f"key-{count}").inc()
        count += 1
except OSError as error:
    print(error.strerror)
uses.inc(5)
text = metrics.exposition("")[0].decode()
print([line for line in text.splitlines() if "unnamed" in line], text.count("key-") == count > 100)
(folder / "ballast").unlink()
metrics.key_uses.labels("another").inc()
print("another" in metrics.exposition("")[0].decode())
try:
    (folder / "ballast").write_bytes(bytes(2**20))
except OSError:
    share_values(folder, 2)
    try:
        Metrics(folder)
    except OSError as error:
        print(error.strerror)
print("unnamed" in metrics.exposition("")[0].decode())
' "$1"
"""


def test_on_a_full_disk_new_values_are_refused_and_those_there_go_on(tmp_path: Path) -> None:
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode:
        pytest.skip("a file system of one's own may not be mounted here")
    command = ["unshare", "--mount", "sh", "-c", ON_A_FULL_DISK, sys.executable, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    full, counted = "No space left on device", 'pushforward_key_uses_total{key="unnamed"} 5.0'
    assert done.stdout.splitlines() == [full, full, f"{[counted]} True", "True", full, "True"], done.stderr


READY_BY_ONE = """
import sys
from pathlib import Path
from service.observe.metrics import Metrics
from service.observe.shared_values import share_values

folder = Path(sys.argv[1])
for replica, ready in ((1, True), (2, False)):
    share_values(folder, replica)
    metrics = Metrics(folder)
    metrics.ready.set(ready)
print("pushforward_ready 1.0" in metrics.exposition("")[0].decode().splitlines())
"""


def test_a_service_is_ready_while_one_of_its_processes_is(tmp_path: Path) -> None:
    """Else the alert that nobody answers would fire while one process starts again and others answer."""
    done = subprocess.run([sys.executable, "-c", READY_BY_ONE, tmp_path], capture_output=True, text=True)
    assert done.stdout == "True\n", done.stderr
