"""Every graph of every model on the CPU and on the device, with the largest differences of each output.

The engines are the service's own, with its options, its padding and its IO binding.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from service.format.versions import read_manifest
from service.runtime.engine import SELF_TEST_TOLERANCES, Engine

from .check import Check, CheckFailed, Row
from .graphs import ROWS, Gap, examples, published

_DISCRETE: Final = "draw"
"""The graph whose outputs jump where the inputs cross a threshold, by a rounding error too."""
_MOST_JUMPS: Final = 1e-3
"""The largest share of its values that may jump."""


def rows(check: Check) -> Iterator[Row]:
    """A row for each output of each graph.

    Raises:
        CheckFailed: in the end, if an output is further off than the device's self-test allows, or a model
            could not be loaded or computed.
    """
    flaws = []
    for folder in published(check):
        try:
            for row in _of_version(check, folder):
                yield row
                if float(row["beyond"]) > _allowed(row):
                    flaws.append(f"{row['model']}, {row['graph']}.{row['output']}: {row['relative']:.1e}")
        except Exception as error:  # of one model; the others are compared all the same
            flaws.append(f"{folder.parent.name}: {type(error).__name__}: {error}")
    if flaws:
        tolerance = SELF_TEST_TOLERANCES[check.device]
        raise CheckFailed(f"beyond {tolerance:.0e}, or not computed: " + "; ".join(flaws))


def _of_version(check: Check, folder: Path) -> Iterator[Row]:
    manifest = read_manifest(folder)
    of_cpu = Engine(folder, manifest, "cpu", ROWS)
    of_device = Engine(folder, manifest, check.device, ROWS, binds=True)  # as on a GPU, on the CPU too
    of_device.self_test(folder)
    for graph, spec in manifest.graphs.items():
        inputs = examples(folder, manifest, graph)
        outputs = zip(spec.outputs, of_cpu.run(graph, inputs), of_device.run(graph, inputs), strict=True)
        for tensor, one, other in outputs:
            gap = Gap(tensor.name, one, other, SELF_TEST_TOLERANCES[check.device])
            yield {
                "model": manifest.name,
                "version": manifest.version,
                "graph": graph,
                "output": tensor.name,
                "absolute": gap.absolute,
                "relative": gap.relative,
                "beyond": gap.beyond,
                "values": gap.values,
            }


def _allowed(row: Row) -> float:
    return _MOST_JUMPS * float(row["values"]) if row["graph"] == _DISCRETE else 0
