import asyncio
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from service.observe.timing import Timing
from service.runtime.model import Output
from tests.registries import registry_of
from tests.toy import publish_toy


@pytest.mark.parametrize("temperature", [1.0, 0.5])
@pytest.mark.parametrize("output", get_args(Output))
def test_samples_in_any_order_are_those_of_one_run(
    tmp_path: Path, output: Output, temperature: float
) -> None:
    publish_toy(tmp_path, mixture=True)
    how = temperature, output, Timing()
    order = np.random.default_rng(0).permutation(70)  # more than a batch

    async def both() -> tuple[np.ndarray, np.ndarray]:
        async with registry_of(tmp_path) as registry:
            model = registry.get("toy-vae")
            run = await model.sample(11, 5, 70, *how)
            return run[order], await model.sample_at(np.full(70, 11), 5 + order, *how)

    wanted, scattered = asyncio.run(both())
    assert len(np.unique(wanted)) > 1
    np.testing.assert_array_equal(scattered, wanted)
