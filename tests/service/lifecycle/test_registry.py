"""The coming and going of versions. Each test looks at the folder itself, so nothing waits for a clock."""

from __future__ import annotations

import asyncio
import gc
import shutil
import weakref
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from service.errors import LoadFailed, ServiceError, UnknownModel, UnknownVersion
from service.format.aliases import ALIASES_FILE, change_alias, write_aliases
from service.observe.metrics import Metrics
from service.observe.timing import Timing
from tests.damage import GRAPH, flip_a_byte
from tests.registries import TOY, answering, look_twice, registry_of, samples, versions
from tests.service.runtime.doubling import settle
from tests.toy import publish_toy
from tests.toy_gan import publish_gan

pytestmark = pytest.mark.anyio


async def test_a_version_that_comes_is_served_beside_the_older_ones(tmp_path: Path) -> None:
    publish_toy(tmp_path)
    async with registry_of(tmp_path) as registry:
        publish_toy(tmp_path)
        await look_twice(registry)
        assert answering(registry) == answering(registry, "2") == 2
        assert answering(registry, "1") == 1
        assert versions(registry) == {2: "ready", 1: "ready"}


async def test_a_model_that_comes_is_served_and_one_that_goes_is_not(tmp_path: Path) -> None:
    publish_toy(tmp_path)
    async with registry_of(tmp_path) as registry:
        publish_toy(tmp_path, "other-vae")
        await look_twice(registry)
        assert registry.get("other-vae").manifest.version == 1
        shutil.rmtree(tmp_path / "other-vae")
        await registry.poll()
        with pytest.raises(UnknownModel):
            registry.get("other-vae")
        assert registry.ready


async def test_a_broken_model_that_goes_is_unknown_while_a_version_of_another_is_loaded(
    tmp_path: Path,
) -> None:
    publish_toy(tmp_path)
    flip_a_byte(publish_toy(tmp_path, "zeta-vae"))
    async with registry_of(tmp_path) as registry:
        publish_toy(tmp_path)
        await registry.poll()
        shutil.rmtree(tmp_path / "zeta-vae")
        polling, told = asyncio.create_task(registry.poll()), set()
        while not polling.done():
            with pytest.raises(ServiceError) as refused:
                registry.get("zeta-vae")
            told.add(refused.type)
            await asyncio.sleep(0)
        assert told == {LoadFailed, UnknownModel}


async def test_a_service_may_start_with_nothing_and_serves_what_comes(tmp_path: Path) -> None:
    async with registry_of(tmp_path) as registry:
        states = [registry.state]
        publish_toy(tmp_path)
        await registry.poll()
        states.append(registry.state)
        assert states == ["empty", "loading"]
        await registry.poll()
        assert registry.ready
        assert answering(registry) == 1


async def test_with_one_version_wanted_a_newer_takes_its_place_and_removed_it_gives_it_back(
    tmp_path: Path,
) -> None:
    publish_toy(tmp_path)
    async with registry_of(tmp_path, newest_versions=1) as registry:
        second = publish_toy(tmp_path)
        await look_twice(registry)
        assert versions(registry) == {2: "ready", 1: "unloaded"}
        with pytest.raises(UnknownVersion, match="version 1 of toy-vae is not served; served: 2"):
            registry.get(TOY, "1")
        shutil.rmtree(second)
        await registry.poll()
        assert versions(registry) == {1: "ready"}
        assert answering(registry) == 1


async def test_pinned_versions_are_served_and_no_others_of_their_model(tmp_path: Path) -> None:
    for _ in range(3):
        publish_toy(tmp_path)
    publish_toy(tmp_path, "other-vae")
    async with registry_of(tmp_path, pinned="toy-vae/1,toy-vae/2") as registry:
        publish_toy(tmp_path)
        await look_twice(registry)
        assert versions(registry) == {4: "unloaded", 3: "unloaded", 2: "ready", 1: "ready"}
        assert answering(registry) == 2
        assert registry.get("other-vae").manifest.version == 1


async def test_the_champion_answers_where_no_version_is_named_and_is_kept_though_it_is_old(
    tmp_path: Path,
) -> None:
    for _ in range(3):
        publish_toy(tmp_path)
    write_aliases(tmp_path / TOY, {"champion": 1})
    async with registry_of(tmp_path, newest_versions=1) as registry:
        assert versions(registry) == {3: "ready", 2: "unloaded", 1: "ready"}
        assert answering(registry) == answering(registry, "champion") == 1
        change_alias(tmp_path / TOY, "champion", 2)
        change_alias(tmp_path / TOY, "challenger", 3)
        await registry.poll()
        assert versions(registry) == {3: "ready", 2: "ready", 1: "unloaded"}
        assert answering(registry) == 2
        assert answering(registry, "challenger") == 3
        change_alias(tmp_path / TOY, "champion", None)
        await registry.poll()
        assert answering(registry) == 3
        with pytest.raises(UnknownVersion, match="challenger"):
            registry.get(TOY, "champion")


async def test_an_alias_of_a_version_that_is_not_there_is_told_once_and_leaves_the_answers_as_they_were(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    publish_toy(tmp_path)
    async with registry_of(tmp_path) as registry:
        write_aliases(tmp_path / TOY, {"champion": 9})
        await look_twice(registry)
        assert answering(registry) == 1
        assert caplog.text.count("the alias champion of toy-vae names version 9, which is not there") == 1


async def test_aliases_that_cannot_be_read_leave_those_before_in_place(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        publish_toy(tmp_path)
    write_aliases(tmp_path / TOY, {"champion": 1})
    async with registry_of(tmp_path) as registry:
        (tmp_path / TOY / ALIASES_FILE).write_text('{"champion": ')
        await look_twice(registry)
        assert answering(registry) == 1
        assert caplog.text.count("toy-vae/aliases.json") == 1


async def test_a_champion_that_fails_leaves_the_answers_to_the_one_before(tmp_path: Path) -> None:
    for _ in range(2):
        publish_toy(tmp_path)
    write_aliases(tmp_path / TOY, {"champion": 1})
    async with registry_of(tmp_path) as registry:
        flip_a_byte(publish_toy(tmp_path))
        write_aliases(tmp_path / TOY, {"champion": 3})
        await look_twice(registry)
        assert versions(registry) == {3: "failed", 2: "ready", 1: "ready"}
        assert answering(registry) == 1


async def test_a_folder_that_is_suddenly_empty_or_gone_leaves_all_that_is_loaded(tmp_path: Path) -> None:
    models = tmp_path / "models"
    publish_toy(models)
    async with registry_of(models) as registry:
        models.rename(tmp_path / "away")
        with pytest.raises(OSError):
            await registry.poll()
        models.mkdir()
        with pytest.raises(OSError):
            await registry.poll()
        assert answering(registry) == 1


async def test_a_version_changed_in_its_folder_serves_on_as_it_was_loaded(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    version = publish_toy(tmp_path)
    async with registry_of(tmp_path) as registry:
        before = await samples(registry)
        flip_a_byte(version)
        await look_twice(registry)
        np.testing.assert_array_equal(await samples(registry), before)
        assert caplog.text.count("toy-vae/1 was changed in its folder") == 1


@pytest.mark.parametrize("publish", [publish_toy, publish_gan])
async def test_a_version_is_kept_for_the_requests_that_it_answers_and_then_freed(
    tmp_path: Path, publish: Callable[[Path], Path]
) -> None:
    name = publish(tmp_path).parent.name
    metrics = Metrics()
    capacity = {"model": name, "stage": "decode"}
    async with registry_of(tmp_path, metrics, newest_versions=1) as registry:
        room = metrics.registry.get_sample_value("pushforward_queue_capacity_items", capacity)
        served = registry.get(name)
        engine = weakref.ref(served._batchers["decode"]._compute.func.__self__)  # type: ignore[attr-defined]
        gc.collect()
        gc.freeze()  # as the service does; a cycle would never be found
        try:
            with served:
                publish(tmp_path)
                await look_twice(registry)
                assert registry.get(name).manifest.version == 2
                await settle()  # in which one that is not in use is stopped
                assert len(await served.sample(7, 0, 4, 1.0, "mean", Timing())) == 4
            del served
            await asyncio.gather(*registry._unloading)
            assert engine() is None
        finally:
            gc.unfreeze()
        assert metrics.registry.get_sample_value("pushforward_queue_capacity_items", capacity) == room


async def test_told_to_unload_a_model_is_not_served_until_it_is_told_to_load(tmp_path: Path) -> None:
    publish_toy(tmp_path)
    publish_toy(tmp_path, "other-vae")
    async with registry_of(tmp_path) as registry:
        await registry.unload(TOY)
        await look_twice(registry)
        with pytest.raises(UnknownVersion, match="not served"):
            registry.get(TOY)
        assert registry.ready
        publish_toy(tmp_path)
        await registry.load(TOY)
        assert versions(registry) == {2: "ready", 1: "ready"}
        for told in (registry.load, registry.unload):
            with pytest.raises(UnknownModel, match="there are: other-vae, toy-vae"):
                await told("nothing")


async def test_told_to_load_what_is_damaged_it_says_why_and_serves_the_rest(tmp_path: Path) -> None:
    publish_toy(tmp_path)
    async with registry_of(tmp_path) as registry:
        (publish_toy(tmp_path) / GRAPH).unlink()
        with pytest.raises(LoadFailed, match=r"version 2 of toy-vae .*decode\.onnx: missing"):
            await registry.load(TOY)
        assert answering(registry) == 1


async def test_told_to_load_a_model_whose_pinned_version_is_damaged_it_says_why(tmp_path: Path) -> None:
    flip_a_byte(publish_toy(tmp_path))
    publish_toy(tmp_path)
    async with registry_of(tmp_path, pinned=f"{TOY}/1") as registry:
        with pytest.raises(LoadFailed, match=r"version 1 of toy-vae .*SHA-256"):
            await registry.load(TOY)


async def test_a_model_that_comes_broken_later_leaves_the_others_ready(tmp_path: Path) -> None:
    publish_toy(tmp_path)
    async with registry_of(tmp_path) as registry:
        flip_a_byte(publish_toy(tmp_path, "other-vae"))
        await look_twice(registry)
        assert versions(registry, "other-vae") == {1: "failed"}
        assert registry.ready


async def test_a_start_without_one_of_its_models_is_not_ready_until_that_one_is_mended_or_gone(
    tmp_path: Path,
) -> None:
    publish_toy(tmp_path)
    flip_a_byte(publish_toy(tmp_path, "other-vae"))
    async with registry_of(tmp_path) as registry:
        assert (registry.state, registry.lacking) == ("failed", ["other-vae"])
        assert answering(registry) == 1
        publish_toy(tmp_path, "other-vae")
        await look_twice(registry)
        assert registry.ready
        shutil.rmtree(tmp_path / "other-vae")
        await registry.poll()
        assert registry.ready


async def test_a_folder_or_a_pinned_version_that_is_not_there_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with registry_of(tmp_path / "modles") as registry:
        assert registry.state == "empty"
    assert "modles does not exist" in caplog.text
    publish_toy(tmp_path)
    async with registry_of(tmp_path, pinned="toy-vae/1,toy-vae/2,tyo-vae/1") as registry:
        assert answering(registry) == 1
        assert (registry.state, registry.lacking) == ("failed", ["tyo-vae"])
    assert "toy-vae/2 is pinned and not in the models folder, which has of that model: 1" in caplog.text
    assert (
        "tyo-vae/1 is pinned and not in the models folder, which has of that model: no version" in caplog.text
    )
