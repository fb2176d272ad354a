"""A computation whose batches tests hold and count, and the calls they make of it."""

import asyncio
import threading

import numpy as np

from service.numerics.noise import Arrays
from service.runtime.batcher import Batcher


class Doubling:
    """Doubles rows; remembers its batches, waits at a gate, and fails on negative numbers."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.begun = threading.Semaphore(0)
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, inputs: Arrays) -> Arrays:
        self.begun.release()
        if not self.gate.wait(20):
            raise TimeoutError("the gate stayed shut")
        (rows,) = inputs
        self.batches.append(len(rows))
        if (rows < 0).any():
            raise ValueError("negative")
        return (rows * 2,)

    async def wait_until_begun(self) -> None:
        if not await asyncio.to_thread(self.begun.acquire, timeout=20):
            raise TimeoutError("nothing was begun")


def rows(*values: float) -> Arrays:
    return (np.array(values, dtype=np.float32),)


def submit(batcher: Batcher, values: Arrays, cost: int = 1) -> "asyncio.Task[Arrays]":
    return asyncio.ensure_future(batcher.submit(values, cost_per_row=cost))


async def settle() -> None:
    """Lets every task that can run do so."""
    for _ in range(10):
        await asyncio.sleep(0)
