"""Calls that are computed at once get what a batcher gives a lone call, by the very same batches."""

import numpy as np
import pytest

from service.errors import EngineFailed, OutOfMemory, RuntimeFailed
from service.numerics.noise import Arrays
from service.runtime.batcher import Batcher
from service.runtime.direct import Direct
from service.runtime.queue import BatchLimits

pytestmark = pytest.mark.anyio


class Adding:
    """Adds a row's numbers, and keeps the sizes of the batches that it was given."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def __call__(self, arrays: Arrays) -> Arrays:
        self.batches.append(len(arrays[0]))
        assert all(array.flags.c_contiguous for array in arrays)
        return (sum(array.reshape(len(array), -1).sum(axis=1) for array in arrays),)


@pytest.mark.parametrize("cost_per_row", [1, 3, 20])
@pytest.mark.parametrize("rows", [1, 5, 16, 17, 50])
async def test_a_call_has_the_batches_and_the_outputs_of_a_lone_call_of_a_batcher(
    rows: int, cost_per_row: int
) -> None:
    items = np.random.default_rng(rows).normal(size=(rows, 3))
    shared = np.broadcast_to(np.arange(4.0), (rows, 4))
    ours, theirs = Adding(), Adding()
    batcher = Batcher(theirs, BatchLimits(max_batch_cost=16, short_cost=16))
    batcher.start()
    (expected,) = await batcher.submit((items, shared), cost_per_row=cost_per_row)
    await batcher.stop()
    (found,) = await Direct(ours, 16).submit((items, shared), cost_per_row=cost_per_row)
    np.testing.assert_array_equal(found, expected)
    assert ours.batches == theirs.batches


@pytest.mark.parametrize(
    ("raised", "told"),
    [(RuntimeFailed("x"), EngineFailed), (OutOfMemory("x"), OutOfMemory), (ValueError("x"), EngineFailed)],
)
async def test_a_failure_is_told_as_a_batcher_tells_it(raised: Exception, told: type[Exception]) -> None:
    def failing(_: Arrays) -> Arrays:
        raise raised

    with pytest.raises(told, match="these rows"):
        await Direct(failing, 16).submit((np.zeros((40, 2)),))
