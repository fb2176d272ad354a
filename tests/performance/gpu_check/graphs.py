"""The versions to check, inputs for every graph of one, and how far outputs are apart."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from service.format.manifest import Manifest
from service.format.specs import GraphName
from service.format.versions import magnitude, version_folders
from service.numerics.noise import Arrays
from service.runtime.session import choose_provider

from .check import Check, CheckFailed

ROWS: Final = 64
"""Rows of every example: the largest batch of the service by default."""

_NORMAL: Final = ("latents", "eps")
_UNIFORM: Final = ("uniforms",)


def published(check: Check) -> Iterator[Path]:
    """The newest version of every model, in the order of their names, once the device is known to work.

    Raises:
        CheckFailed: there is none.
        ProviderUnavailable: ONNX Runtime cannot compute on the device; says why.
    """
    found = [folder for folder in sorted(check.models.iterdir()) if folder.is_dir()]
    newest = [versions[-1] for versions in map(version_folders, found) if versions]
    if not newest:
        raise CheckFailed(f"{check.models} holds no published model; name another folder by --models")
    choose_provider(check.device, newest[0])
    yield from newest


def examples(folder: Path, manifest: Manifest, graph: GraphName) -> Arrays:
    """ROWS rows for a graph: noise as the service draws it, and mixtures of the stored items.

    Each number of a mixture is that of one of the items stored for the self-test, so that whatever values
    items may have, these have them.
    """
    generator = np.random.default_rng(0)
    found = []
    with np.load(folder / manifest.self_test.file, allow_pickle=False) as stored:
        for tensor in manifest.graphs[graph].inputs:
            rows = stored[f"{graph}.inputs.{tensor.name}"]
            shape = (ROWS, *rows.shape[1:])
            if tensor.name in _NORMAL:
                found.append(generator.standard_normal(shape, np.float32))
            elif tensor.name in _UNIFORM:
                found.append(generator.random(shape, np.float32))
            else:
                chosen = generator.integers(len(rows), size=shape)
                found.append(np.take_along_axis(rows, chosen, axis=0).astype(np.float32))
    return tuple(found)


class Gap:
    """The largest distance of two values of the same output: absolute, and relative to 1 + |value|.

    For the outputs `map` and `columns` it is relative to 1 + the item's sum of |value|, as in the self-test.
    """

    def __init__(self, output: str, one: NDArray[Any], other: NDArray[Any], tolerance: float) -> None:
        apart = np.abs(one.astype(np.float64) - other)
        relative = apart / magnitude(output, one)
        self.absolute = float(apart.max(initial=0.0))
        self.relative = float(relative.max(initial=0.0))
        self.values = apart.size
        self.beyond = int(np.count_nonzero(relative > tolerance))
        """The number of values that are further apart than the tolerance."""
