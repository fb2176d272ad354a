"""Run a version's graphs on many items, on all cores.

Shapes: N items; items (N, *item).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from service.numerics.noise import Floats
from training.data.batches import cores_at_hand, rows_at_once

_ROWS: Final = 100
_VALUES: Final = 2**20
"""The most values, of all rows and draws of a batch: more fit into no core's cache, and take longer."""

RunGraph = Callable[[Sequence[Floats]], tuple[Floats, ...]]
"""Computes a graph: inputs to outputs, both in the graph's order."""
Result = TypeVar("Result")


def batches_of(items: Floats, labels: Floats | None, draws: int = 1) -> Iterator[list[Floats]]:
    """Yield rows of items and, if they have classes, of their labels."""
    at_once = rows_at_once(_ROWS, draws * math.prod(items.shape[1:]), _VALUES)
    for first in range(0, len(items), at_once):
        rows = slice(first, first + at_once)
        yield [items[rows]] if labels is None else [items[rows], labels[rows]]


def on_all_cores(
    compute: Callable[[Sequence[Floats]], Result], batches: Iterable[Sequence[Floats]]
) -> list[Result]:
    """Return the results of a computation by ONNX Runtime for each batch, in order.

    A session has one thread for each call, as in the service, and releases Python's lock: so results are the
    same on any number of cores.
    """
    with ThreadPoolExecutor(cores_at_hand()) as threads:
        return list(threads.map(compute, batches))
