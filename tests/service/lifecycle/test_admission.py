"""Versions that stay out: damaged, deadly to who loads them, or not whole yet."""

from __future__ import annotations

import asyncio
import errno
import itertools
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from fcntl import LOCK_EX, flock
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from service.app import Service, create_app
from service.errors import InvalidVersion, LoadFailed, NotLoadedNow
from service.format.aliases import ALIASES_FILE
from service.format.manifest import Manifest
from service.format.versions import MANIFEST, verify_files
from service.lifecycle import admission, trial
from service.lifecycle.registry import Registry
from service.lifecycle.source import fingerprint
from service.lifecycle.trial import free_memory_bytes, try_in_subprocess
from service.observe.metrics import Metrics
from service.runtime import loader
from service.runtime.model import LoadedModel
from service.runtime.session import Provider
from service.settings import Settings
from tests.damage import DAMAGES, GRAPH, divide_beyond_int32, flip_a_byte, take_an_age
from tests.registries import TOY, answering, look_twice, registry_of, samples, versions
from tests.toy import publish_toy
from tests.waiting import wait_until

pytestmark = pytest.mark.anyio


def trials() -> list[int]:
    """The processes of trials that run; one that ends meanwhile is none."""
    found: list[int] = []
    for children in Path("/proc/self/task").glob("*/children"):  # any thread may have started it
        pids = [int(pid) for pid in read(children).split()]
        found += [pid for pid in pids if b"service.lifecycle.trial" in read(Path(f"/proc/{pid}/cmdline"))]
    return found


def read(path: Path) -> bytes:
    """Return the content of a file of /proc; empty once its process has ended."""
    try:
        return path.read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def begun_trial(after: int = 0) -> int:
    """Wait for a trial whose process is not `after`, and return its process."""
    return wait_until(lambda: [pid for pid in trials() if pid != after])[0]


def ended(process: int) -> None:
    """Returns once the process of the trial is gone."""
    wait_until(lambda: process not in trials())


async def test_a_version_whose_files_change_while_it_is_loaded_is_refused(tmp_path: Path) -> None:
    version = publish_toy(tmp_path)
    admitting = admission.Admission(Settings(models=tmp_path, device="cpu", trial="never"), Metrics())
    admitting.choose_provider([version])
    seen = fingerprint(version)
    assert (await admitting.admit(version, seen)).manifest.name == TOY
    (version / GRAPH).touch()
    with pytest.raises(InvalidVersion, match="changed while it was loaded"):
        await admitting.admit(version, seen)
    admitting.close()


@pytest.mark.parametrize("tried", ["always", "never"])
async def test_a_version_whose_disk_fails_is_tried_again_and_one_without_a_file_is_not(
    tmp_path: Path, tried: Literal["always", "never"]
) -> None:
    version = publish_toy(tmp_path)
    admitting = admission.Admission(Settings(models=tmp_path, device="cpu", trial=tried), Metrics())
    admitting.choose_provider([version])
    manifest = version / MANIFEST
    manifest.unlink()
    with pytest.raises(InvalidVersion, match="No such file or directory") as raised:
        await admitting.admit(version, fingerprint(version))
    assert not isinstance(raised.value, NotLoadedNow)
    manifest.symlink_to("/proc/self/mem")  # whose first byte cannot be read
    with pytest.raises(NotLoadedNow, match=r"^manifest.json: cannot be read \(Input/output error\)$"):
        await admitting.admit(version, fingerprint(version))
    admitting.close()


async def test_a_trial_takes_the_settings_of_a_command_that_has_more_of_its_own(tmp_path: Path) -> None:
    class MoreSettings(Settings):
        demo: bool = True

    version = publish_toy(tmp_path)
    assert await try_in_subprocess([version], "cpu", MoreSettings(models=tmp_path)) == (1, None)


@pytest.mark.parametrize(("damage", "reason"), DAMAGES, ids=[damage.__name__ for damage, _ in DAMAGES])
async def test_a_damaged_version_stays_out_and_says_why_while_the_old_one_serves_until_it_is_mended(
    tmp_path: Path, damage: Callable[[Path], None], reason: str
) -> None:
    publish_toy(tmp_path)
    metrics = Metrics()
    limits = {"trial": "hot", "trial_seconds": 3.0, "trial_memory_bytes": 2**30}
    async with registry_of(tmp_path, metrics, newest_versions=1, **limits) as registry:
        before = await samples(registry)
        version = publish_toy(tmp_path)
        whole = {path.name: path.read_bytes() for path in version.iterdir()}
        damage(version)
        await look_twice(registry)
        assert versions(registry) == {2: "failed", 1: "ready"}
        told = registry.entry(TOY, "2").reason
        assert re.search(reason, told), told
        assert str(tmp_path) not in told
        with pytest.raises(LoadFailed):
            registry.get(TOY, "2")
        np.testing.assert_array_equal(await samples(registry), before)
        failed = {"model": TOY, "version": "2"}
        assert metrics.registry.get_sample_value("pushforward_model_failed", failed) == 1
        await registry.poll()  # it is not tried again as it is
        assert metrics.registry.get_sample_value("pushforward_model_load_failures_total", {"model": TOY}) == 1
        for name, content in whole.items():
            (version / name).write_bytes(content)
        await look_twice(registry)
        assert versions(registry) == {2: "ready", 1: "unloaded"}
        assert metrics.registry.get_sample_value("pushforward_model_failed", failed) == 0


async def test_a_loader_that_is_killed_takes_nothing_with_it(tmp_path: Path) -> None:
    publish_toy(tmp_path)
    async with registry_of(tmp_path, trial="hot", trial_seconds=100) as registry:
        take_an_age(publish_toy(tmp_path))
        await registry.poll()
        looking = asyncio.ensure_future(registry.poll())
        first = await asyncio.to_thread(begun_trial)
        os.kill(first, signal.SIGKILL)
        os.kill(await asyncio.to_thread(begun_trial, first), signal.SIGKILL)
        await looking
        assert versions(registry) == {2: "failed", 1: "ready"}
        assert "was killed by SIGKILL" in registry.entry(TOY, "2").reason
        assert len(await samples(registry)) == 4


@pytest.mark.usefixtures("forgetful")
async def test_a_good_version_whose_trial_is_killed_once_is_served(tmp_path: Path) -> None:
    publish_toy(tmp_path)
    async with registry_of(tmp_path, trial="hot", trial_seconds=100) as registry:
        publish_toy(tmp_path)
        await registry.poll()
        looking = asyncio.ensure_future(registry.poll())
        os.kill(await asyncio.to_thread(begun_trial), signal.SIGKILL)
        await looking
        assert versions(registry) == {2: "ready", 1: "ready"}


DEADLY_FORKS = """
import ctypes, pathlib, sys, uvloop
from service.lifecycle.trial import try_in_subprocess
from service.settings import Settings
libc = ctypes.CDLL(None)
libc.__register_atfork(None, None, ctypes.cast(libc.abort, ctypes.c_void_p), None)
passed, _ = uvloop.run(try_in_subprocess([pathlib.Path(sys.argv[1])], "cpu", Settings()))
sys.exit(passed != 1)
"""
"""A process whose forks die at once, as they may by a library's handler, that tries a version."""


def test_a_trial_runs_no_handler_that_a_library_has_for_a_fork(tmp_path: Path) -> None:
    version = publish_toy(tmp_path)
    tried = subprocess.run([sys.executable, "-c", DEADLY_FORKS, version], capture_output=True, text=True)
    assert tried.returncode == 0, tried.stderr


@pytest.fixture
def forgetful(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No trial is remembered from before."""
    monkeypatch.setenv("PUSHFORWARD_CACHE", str(tmp_path / "cache"))


@pytest.mark.usefixtures("forgetful")
async def test_a_version_that_ends_its_loader_is_refused_at_the_start_too(tmp_path: Path) -> None:
    publish_toy(tmp_path / "models")
    divide_beyond_int32(publish_toy(tmp_path / "models"))
    async with registry_of(tmp_path / "models", trial="hot") as registry:
        assert versions(registry) == {2: "failed", 1: "ready"}
        assert "was killed by SIGFPE" in registry.entry(TOY, "2").reason


@pytest.mark.usefixtures("forgetful")
async def test_a_version_that_hangs_takes_the_time_of_one_trial_at_the_start_and_keeps_no_other_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models, tried = tmp_path / "models", list[int]()
    for name in (TOY, "a-vae", "z-vae"):
        publish_toy(models, name)
    take_an_age(models / TOY / "1")
    start = trial._start_trial

    def counted(folders: Sequence[Path], provider: Provider) -> subprocess.Popen[bytes]:
        tried.append(len(folders))
        return start(folders, provider)

    monkeypatch.setattr(trial, "_start_trial", counted)
    async with registry_of(models, trial="hot", trial_seconds=3) as registry:
        states = {f"{entry.name}/{entry.version}": entry.state for entry in registry.entries()}
        assert states == {"a-vae/1": "ready", "toy-vae/1": "failed", "z-vae/1": "ready"}
        assert "its trial took longer than the 3 s" in registry.entry(TOY, "1").reason
        assert tried == [3, 1]  # all, and once more the one behind it


async def test_where_no_process_is_had_to_try_a_version_once_more_those_before_it_have_passed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sound, broken = publish_toy(tmp_path, "a-vae"), publish_toy(tmp_path)
    divide_beyond_int32(broken)
    start, starts = trial._start_trial, itertools.count(1)

    def first_alone(folders: Sequence[Path], provider: Provider) -> subprocess.Popen[bytes]:
        if next(starts) > 1:
            raise BlockingIOError(errno.EAGAIN, "no more processes")
        return start(folders, provider)

    monkeypatch.setattr(trial, "_start_trial", first_alone)
    passed, flaw = await try_in_subprocess([sound, broken], "cpu", Settings())
    assert (passed, str(flaw)) == (1, "no process could be started to try it (no more processes)")


@pytest.mark.usefixtures("forgetful")
async def test_a_version_that_passed_is_not_tried_at_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish_toy(tmp_path / "models")
    async with registry_of(tmp_path / "models", trial="hot") as registry:
        assert registry.ready
    monkeypatch.setattr(sys, "executable", "/bin/false")  # which a trial would run
    async with registry_of(tmp_path / "models", trial="hot") as registry:
        assert registry.ready
    async with registry_of(tmp_path / "models", trial="always") as registry:
        assert versions(registry) == {1: "failed"}


@pytest.mark.usefixtures("forgetful")
async def test_a_version_that_comes_once_the_cache_was_removed_is_served(tmp_path: Path) -> None:
    publish_toy(tmp_path / "models")
    async with registry_of(tmp_path / "models", trial="hot") as registry:
        shutil.rmtree(tmp_path / "cache")
        publish_toy(tmp_path / "models")
        await look_twice(registry)
        assert versions(registry) == {2: "ready", 1: "ready"}


@pytest.mark.usefixtures("forgetful")
async def test_a_process_that_stands_still_in_its_turn_to_try_versions_keeps_no_other_from_serving(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    publish_toy(tmp_path / "models")
    turn = tmp_path / "cache/trials/lock"
    turn.parent.mkdir(parents=True)
    with turn.open("ab") as lock:
        flock(lock, LOCK_EX)
        async with registry_of(tmp_path / "models", trial="hot", trial_seconds=3) as registry:
            assert registry.ready
    assert f"has had {turn} locked for the 3 s of --trial-seconds" in caplog.text


@pytest.mark.usefixtures("forgetful")
async def test_a_start_with_versions_that_have_passed_waits_for_no_process_that_tries_others(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    publish_toy(tmp_path / "models")
    async with registry_of(tmp_path / "models", trial="hot"):
        pass
    with (tmp_path / "cache/trials/lock").open("ab") as lock:
        flock(lock, LOCK_EX)
        async with registry_of(tmp_path / "models", trial="hot", trial_seconds=3) as registry:
            assert registry.ready
    assert "locked" not in caplog.text


def test_the_provider_is_tried_on_a_version_that_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is damaged would tell of a GPU what is true of its files alone."""
    good, bad, unreadable = (publish_toy(tmp_path) for _ in range(3))
    flip_a_byte(bad)
    tried = list[Path | None]()

    def read(folder: Path, manifest: Manifest) -> None:
        if folder == unreadable:  # root may read all files
            raise PermissionError(errno.EACCES, "Permission denied")
        verify_files(folder, manifest)

    def choose(_device: str, folder: Path | None) -> Provider:
        tried.append(folder)
        return "cpu"

    monkeypatch.setattr(admission, "has_gpu", lambda: True)
    monkeypatch.setattr(admission, "verify_files", read)
    monkeypatch.setattr(admission, "choose_provider", choose)
    Registry(Settings(models=tmp_path, device="auto"), Metrics()).discover()
    assert tried == [good]


async def test_where_nothing_can_be_remembered_versions_are_tried_at_every_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PUSHFORWARD_CACHE", "~a-user-that-is-not/cache")
    publish_toy(tmp_path)
    async with registry_of(tmp_path, trial="hot") as registry:
        assert registry.ready
    monkeypatch.setattr(sys, "executable", "/bin/false")
    async with registry_of(tmp_path, trial="hot") as registry:
        assert versions(registry) == {1: "failed"}


@pytest.mark.parametrize("cores", [1, 2])
async def test_a_start_opens_as_many_versions_at_once_as_it_has_cores_and_times_each_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cores: int
) -> None:
    """Beside others a row would seem to take longer than it does, and then be kept out of the event loop."""
    open_alone, load_alone = loader.open_version, loader.OpenedVersion.load
    together, counts, opening = threading.Barrier(cores), threading.Lock(), 0
    most = []

    def opened(*arguments: Any) -> loader.OpenedVersion:
        nonlocal opening
        with counts:
            opening += 1
            most.append(opening)
        together.wait(timeout=20)
        version = open_alone(*arguments)
        with counts:
            opening -= 1
        return version

    def loaded(version: loader.OpenedVersion, *arguments: Any) -> LoadedModel:
        assert not opening
        return load_alone(version, *arguments)

    monkeypatch.setattr("service.lifecycle.admission.open_version", opened)
    monkeypatch.setattr(loader.OpenedVersion, "load", loaded)
    for _ in range(4):
        publish_toy(tmp_path)
    async with registry_of(tmp_path, cores=cores) as registry:
        assert versions(registry) == dict.fromkeys((4, 3, 2, 1), "ready")
    assert len(most) == 4
    assert max(most) == cores


@asynccontextmanager
async def started(service: Service) -> AsyncIterator[asyncio.Event]:
    """Start a service as a server does; the event is set once it may listen."""
    listens, stop = asyncio.Event(), asyncio.Event()
    told = iter(({"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}))

    async def receive() -> Any:
        message = next(told)
        if message["type"] == "lifespan.shutdown":
            await stop.wait()
        return message

    async def send(message: Any) -> None:
        if message["type"] == "lifespan.startup.complete":
            listens.set()

    task: asyncio.Task[None] = asyncio.create_task(service.app({"type": "lifespan"}, receive, send))  # type: ignore[arg-type]
    yield listens
    stop.set()
    await task


@pytest.mark.usefixtures("forgetful")
async def test_a_service_whose_loads_failed_for_a_moment_listens_once_it_has_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish_toy(tmp_path / "models")
    monkeypatch.setattr("service.lifecycle.entries.FIRST_RETRY_SECONDS", 0.5)
    monkeypatch.setattr(sys, "executable", "/no/such/program")  # no process can be started
    settings = Settings(models=tmp_path / "models", device="cpu", poll_seconds=0)
    metrics = Metrics()
    service = create_app(settings, metrics, loads_first=True)
    failures = partial(
        metrics.registry.get_sample_value, "pushforward_model_load_failures_total", {"model": TOY}
    )
    async with started(service) as listening:
        await asyncio.to_thread(wait_until, failures)
        assert not listening.is_set()
        monkeypatch.undo()
        await listening.wait()
        assert metrics.registry.get_sample_value("pushforward_ready") == 1


async def test_a_pipe_in_the_place_of_a_file_stops_nothing(tmp_path: Path) -> None:
    publish_toy(tmp_path)
    async with registry_of(tmp_path) as registry, asyncio.timeout(20):
        for file in (MANIFEST, GRAPH):
            version = publish_toy(tmp_path)
            (version / file).unlink()
            os.mkfifo(version / file)
        os.mkfifo(tmp_path / TOY / ALIASES_FILE)
        await look_twice(registry)
        assert versions(registry) == {3: "failed", 2: "failed", 1: "ready"}
        assert "not a plain file" in registry.entry(TOY, "2").reason


def test_a_trial_takes_no_more_memory_than_its_container_has_left(tmp_path: Path) -> None:
    assert free_memory_bytes(tmp_path) > 2**60
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.stat").write_text("anon 300000000\nfile 900000000\n")
    assert free_memory_bytes(tmp_path) > 2**60
    (tmp_path / "memory.max").write_text("1000000000\n")
    assert free_memory_bytes(tmp_path) == 700_000_000


async def test_closed_in_the_middle_of_a_trial_the_registry_leaves_no_process(tmp_path: Path) -> None:
    publish_toy(tmp_path)
    async with registry_of(tmp_path, trial="hot", trial_seconds=100) as registry:
        take_an_age(publish_toy(tmp_path))
        await registry.poll()
        looking = asyncio.ensure_future(registry.poll())
        trial = await asyncio.to_thread(begun_trial)
        looking.cancel()
        await asyncio.wait({looking})
        await asyncio.to_thread(ended, trial)


async def test_a_version_that_is_still_being_copied_is_not_tried(tmp_path: Path) -> None:
    publish_toy(tmp_path)
    metrics = Metrics()
    async with registry_of(tmp_path, metrics) as registry:
        whole = publish_toy(tmp_path / "elsewhere")
        copy = tmp_path / TOY / "2"
        copy.mkdir()
        manifest = (whole / "manifest.json").read_text().replace('"version": 1', '"version": 2')
        (copy / "manifest.json").write_text(manifest)
        for path in whole.glob("*.[on]*"):
            if path.name != "manifest.json":
                await registry.poll()
                assert versions(registry) == {2: "loading", 1: "ready"}
                shutil.copy(path, copy)
        await look_twice(registry)
        assert answering(registry) == 2
        failures = metrics.registry.get_sample_value("pushforward_model_load_failures_total", {"model": TOY})
        assert failures == 0
