"""Versions that stay out: damaged, deadly to who loads them, or not whole yet."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from service.errors import LoadFailed
from service.observe.metrics import Metrics
from tests.damage import DAMAGES, never_end
from tests.registries import TOY, answering, look_twice, registry_of, samples, versions
from tests.toy import publish_toy
from tests.waiting import wait_until

pytestmark = pytest.mark.anyio


def trials() -> list[int]:
    """The processes of trials that run; this one's main thread may have started others, too."""
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return [
        int(pid)
        for pid in children
        if b"service.lifecycle.admission" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]


def begun_trial() -> int:
    """The process of a trial, once there is one."""
    return wait_until(trials)[0]


def ended(process: int) -> None:
    """Returns once the trial is no process any more."""
    wait_until(lambda: process not in trials())


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
        never_end(publish_toy(tmp_path))
        await registry.poll()
        looking = asyncio.ensure_future(registry.poll())
        os.kill(await asyncio.to_thread(begun_trial), signal.SIGKILL)
        await looking
        assert versions(registry) == {2: "failed", 1: "ready"}
        assert "was killed by SIGKILL" in registry.entry(TOY, "2").reason
        assert len(await samples(registry)) == 4


async def test_closed_in_the_middle_of_a_trial_the_registry_leaves_no_process(tmp_path: Path) -> None:
    publish_toy(tmp_path)
    async with registry_of(tmp_path, trial="hot", trial_seconds=100) as registry:
        never_end(publish_toy(tmp_path))
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
                assert versions(registry) == {2: "unloaded", 1: "ready"}
                shutil.copy(path, copy)
        await look_twice(registry)
        assert answering(registry) == 2
        failures = metrics.registry.get_sample_value("pushforward_model_load_failures_total", {"model": TOY})
        assert failures == 0
