"""The protocol drops all it keeps about a model when the model goes."""

from __future__ import annotations

import asyncio
import weakref
from pathlib import Path

import numpy as np
import orjson
import pytest

from service.api.open_inference import wire
from service.api.open_inference.plane import DataPlane
from service.api.probes import Lifecycle
from service.observe.metrics import Metrics
from service.settings import Settings
from tests.registries import TOY, registry_of
from tests.toy import publish_toy

pytestmark = pytest.mark.anyio


async def test_an_unloaded_model_is_freed_though_clients_repeated_its_documents(tmp_path: Path) -> None:
    publish_toy(tmp_path)
    metrics = Metrics()
    tensor = {
        "name": "inputs",
        "shape": [1, 1, 2, 2],
        "datatype": "FP32",
        "parameters": {"binary_data_size": 16},
    }
    document = orjson.dumps({"inputs": [tensor]})
    async with registry_of(tmp_path, metrics) as registry:
        plane = DataPlane(registry, metrics, Lifecycle(registry, metrics), Settings())
        _, model = plane.find(f"{TOY}.encode")
        for _ in range(2):
            request = wire.read_request(
                model, document + np.ones(4, "<f4").tobytes(), str(len(document)), plane.settings
            )
            assert request.arrays["inputs"].sum() == 4
        assert len(model.layouts) == 1
        kept = weakref.ref(model)
        del model
        await registry.unload(TOY)
        await asyncio.gather(*registry._unloading)
        assert kept() is None
