from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from service.runtime.batcher import Batcher
from service.runtime.queue import BatchLimits
from tests.service.runtime.doubling import Doubling


class Clock:
    """A clock that tells the seconds that a test sets."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def doubling() -> Doubling:
    return Doubling()


@pytest.fixture
async def batcher(doubling: Doubling) -> AsyncIterator[Batcher]:
    with ThreadPoolExecutor(1) as threads:
        made = Batcher(doubling, BatchLimits(max_batch_cost=8, max_waiting_rows=100), threads=threads)
        made.start()
        yield made
        doubling.gate.set()
        await made.stop()
