"""A registry of a models folder, as tests start it, look at it and ask it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np

from service.lifecycle.registry import Registry
from service.observe.metrics import Metrics
from service.observe.timing import Timing
from service.settings import Settings

TOY = "toy-vae"


@asynccontextmanager
async def registry_of(
    models: Path, metrics: Metrics | None = None, **settings: Any
) -> AsyncIterator[Registry]:
    chosen = {"trial": "never"} | settings
    registry = Registry(Settings(models=models, device="cpu", **chosen), metrics or Metrics())
    registry.discover()
    await registry.start()
    yield registry
    await registry.close()


async def look_twice(registry: Registry) -> None:
    """Poll twice: first to see the versions, then to see that they stay as they are."""
    await registry.poll()
    await registry.poll()


def versions(registry: Registry, name: str = TOY) -> dict[int, str]:
    return {entry.version: entry.state for entry in registry.entries() if entry.name == name}


def answering(registry: Registry, version: str | None = None) -> int:
    return registry.get(TOY, version).manifest.version


async def samples(registry: Registry) -> np.ndarray:
    return await registry.get(TOY).sample(7, 0, 4, 1.0, "mean", Timing())
