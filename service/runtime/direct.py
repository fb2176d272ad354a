"""Calls of one computation, computed at once: for a process with one caller, who waits for each of them."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from service.numerics.noise import Arrays
from service.observe.timing import Timing
from service.runtime.batcher import Compute, failure_of_rows


class Computation(Protocol):
    """A computation on rows, as `Batcher` and `Direct` do it; see `Batcher` for its parts."""

    @property
    def healthy(self) -> bool:
        """Return False once it keeps failing."""

    def start(self) -> None:
        """Begin to take calls."""

    async def stop(self) -> None:
        """Take no more calls."""

    async def submit(
        self, inputs: Arrays, timing: Timing | None = None, *, cost_per_row: int = 1, admitted: bool = False
    ) -> Arrays:
        """Compute (n, ...) rows, n >= 1; the outputs have n rows in the same order."""


class Direct:
    """Computes a call in the task of its caller, in the batches that a `Batcher` makes of a lone call.

    Nothing can arrive meanwhile, so there is neither a queue nor a turn of the event loop for each batch:
    between two batches these take a tenth of the time of a small network, whose weights they drive from the
    processor's cache.
    """

    healthy = True

    def __init__(self, compute: Compute, max_batch_cost: int) -> None:
        self._compute = compute
        self._max_batch_cost = max_batch_cost

    def start(self) -> None:
        """Do nothing: there are no lanes."""

    async def stop(self) -> None:
        """Do nothing: no call waits."""

    async def submit(
        self,
        inputs: Arrays,
        timing: Timing | None = None,  # noqa: ARG002
        *,
        cost_per_row: int = 1,
        admitted: bool = False,  # noqa: ARG002
    ) -> Arrays:
        """Compute (n, ...) rows, n >= 1; the outputs have n rows in the same order.

        Raises:
            EngineFailed: the computation failed on these very rows.
            OutOfMemory: there was no memory for these rows.
        """
        rows, size = len(inputs[0]), max(1, self._max_batch_cost // cost_per_row)
        if rows <= size:
            return self._batch(inputs)
        outputs: Arrays = ()
        for first in range(0, rows, size):
            parts = self._batch(tuple([array[first : first + size] for array in inputs]))
            outputs = outputs or tuple([np.empty((rows, *part.shape[1:]), part.dtype) for part in parts])
            for whole, part in zip(outputs, parts, strict=True):
                whole[first : first + size] = part
        return outputs

    def _batch(self, inputs: Arrays) -> Arrays:
        try:
            return self._compute(tuple([np.ascontiguousarray(array) for array in inputs]))
        except Exception as error:
            raise failure_of_rows(error) from error
