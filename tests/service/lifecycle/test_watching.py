from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from service.errors import Loading
from service.lifecycle.watching import watch
from service.observe.metrics import Metrics
from tests.registries import registry_of, versions
from tests.toy import publish_toy

pytestmark = pytest.mark.anyio


async def test_what_is_published_is_found_long_before_the_next_poll_and_loads_with_it(tmp_path: Path) -> None:
    publish_toy(tmp_path)
    metrics = Metrics()
    async with registry_of(tmp_path, metrics) as registry, asyncio.timeout(30):
        watching = asyncio.create_task(watch(registry, metrics, 3600))
        publish_toy(tmp_path)
        while len(versions(registry)) == 1:  # noqa: ASYNC110
            await asyncio.sleep(0)
        assert versions(registry) == {2: "loading", 1: "ready"}
        with pytest.raises(Loading, match="version 2 of toy-vae is being loaded"):
            registry.get("toy-vae", "2")
        watching.cancel()
