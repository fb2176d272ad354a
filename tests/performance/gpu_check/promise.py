"""Promise 1 on the device: a row in every batch and order, and sample i of a seed by every request.

On the CPU all are equal bit for bit; on a GPU the largest difference is what is found out here.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pushforward.local.model import LocalModel
from service.format.manifest import Manifest
from service.format.specs import GraphName
from service.format.versions import read_manifest
from service.runtime.engine import SELF_TEST_TOLERANCES, Engine

from .check import Check, CheckFailed, DeviceName, Row
from .graphs import ROWS, Gap, examples, published

_SEED: Final = 7
_REQUESTS: Final = ((0, 1), (0, 5), (5, 5), (1, 63), (17, 20), (0, 200), (150, 50))
"""Offsets and counts of requests for samples of one seed."""
_ALL: Final = 200


def rows(check: Check) -> Iterator[Row]:
    """A row for each graph of each model, and one for its samples.

    Raises:
        CheckFailed: in the end, if a row differs by more than the device's self-test allows.
    """
    flaws = []
    for folder in published(check):
        manifest = read_manifest(folder)
        engine = Engine(folder, manifest, check.device, ROWS, binds=True)  # as on a GPU, on the CPU too
        found = [_of_graph(engine, folder, manifest, graph) for graph in manifest.graphs if graph != "draw"]
        for row in [*found, _of_samples(check.device, folder, label=0 if manifest.conditional else None)]:
            yield row
            if not float(row["relative"]) <= SELF_TEST_TOLERANCES[check.device]:
                flaws.append(f"{row['model']}, {row['what']}: {row['relative']:.1e}")
    if flaws:
        raise CheckFailed("a row depends on its batch: " + "; ".join(flaws))


def _of_graph(engine: Engine, folder: Path, manifest: Manifest, graph: GraphName) -> Row:
    """The rows of a graph in batches of every size, and in another order, beside those of one batch."""
    inputs = examples(folder, manifest, graph)
    whole = engine.run(graph, inputs)
    batches = [
        np.arange(start := (size * 7) % (ROWS + 1 - size), start + size) for size in range(1, ROWS + 1)
    ]
    batches.append(np.random.default_rng(0).permutation(ROWS))
    pairs = []
    for chosen in batches:
        parts = engine.run(graph, tuple(array[chosen] for array in inputs))
        pairs.append([(one[chosen], part) for one, part in zip(whole, parts, strict=True)])
    names = [tensor.name for tensor in manifest.graphs[graph].outputs]
    return _row(manifest.name, f"rows of {graph}", names, pairs)


def _of_samples(device: DeviceName, folder: Path, label: int | None) -> Row:
    """Samples of one seed by requests with other offsets and counts, beside those of one request."""
    with LocalModel(folder, device) as model:
        whole = model.sample(count=_ALL, seed=_SEED, label=label)
        pairs = []
        for offset, count in _REQUESTS:
            part = model.sample(count=count, offset=offset, seed=_SEED, label=label)
            pairs.append([(whole[offset : offset + count], part)])
    return _row(model.name, f"samples of seed {_SEED}", ["samples"], pairs)


def _row(
    model: str, what: str, names: list[str], pairs: list[list[tuple[NDArray[Any], NDArray[Any]]]]
) -> Row:
    equal, absolute, relative = 0, 0.0, 0.0
    for each in pairs:
        gaps = [Gap(name, one, part, 0.0) for name, (one, part) in zip(names, each, strict=True)]
        equal += all(np.array_equal(one, part) for one, part in each)
        absolute = max(absolute, *(gap.absolute for gap in gaps))
        relative = max(relative, *(gap.relative for gap in gaps))
    return {
        "model": model,
        "what": what,
        "batches": len(pairs),
        "bit for bit equal": equal,
        "absolute": absolute,
        "relative": relative,
    }
