"""A version while it is written: beside its place, so that a failure leaves nothing. It needs no torch."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path
from typing import Final

import numpy as np

from service.format.specs import FileSpec, GraphName, GraphSpec, MixturePriorSpec
from service.format.versions import sha256_of, stage
from service.numerics.noise import Doubles, Floats
from training.export.sessions import GraphTensors
from training.export.steps import LEAST_BYTES, divide
from training.export.weights import FILE as WEIGHTS
from training.export.weights import store_once

_YOUNG_SECONDS: Final = 60
"""A folder that was just made may not be held yet."""


def place_flaw(folder: Path) -> str | None:
    """Return why no version can be written into a folder of versions, which need not be there yet, or None.

    Permissions alone do not tell: not of the superuser, nor of storage of networks.
    """
    place = folder.absolute()
    try:
        while not place.exists():
            place = place.parent
        Path(tempfile.mkdtemp(prefix=".partial-", dir=place)).rmdir()
    except OSError as error:
        return f"{place} is no folder that can be written ({error.strerror}); name another folder of models"
    return None


@contextlib.contextmanager
def staged(models: Path, name: str) -> Iterator[Path]:
    """Make a staging folder beside the versions of a model, and remove it if the block fails.

    It is locked for as long, and folders that nobody holds, of publications that were killed, are removed.
    """
    staging = stage(models, name)
    descriptor = os.open(staging, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # storage without locks, such as some of networks
            flock(descriptor, LOCK_EX | LOCK_NB)
            _remove_abandoned(staging)
        yield staging
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        with contextlib.suppress(OSError):  # not empty: it has older versions
            staging.parent.rmdir()
        raise
    finally:
        os.close(descriptor)


def _remove_abandoned(staging: Path) -> None:
    for other in staging.parent.glob(".partial-*"):
        if other == staging or time.time() - other.stat().st_mtime < _YOUNG_SECONDS:
            continue
        descriptor = os.open(other, os.O_RDONLY)
        try:
            flock(descriptor, LOCK_EX | LOCK_NB)
            shutil.rmtree(other, ignore_errors=True)
        except BlockingIOError:
            continue  # another publication is at work in it
        finally:
            os.close(descriptor)


def file_spec(path: Path) -> FileSpec:
    """Return the manifest's entry of a staged file."""
    return FileSpec(file=path.name, sha256=sha256_of(path))


def write_self_test(
    staging: Path, examples: Mapping[GraphName, tuple[GraphTensors, Sequence[Floats], Sequence[Floats]]]
) -> FileSpec:
    """Store example inputs and outputs of graphs as `GRAPH.inputs.NAME` and `GRAPH.outputs.NAME`.

    Returns:
        The manifest's entry of the file.
    """
    arrays = {
        f"{name}.{side}.{spec.name}": array
        for name, (graph, inputs, outputs) in examples.items()
        for side, specs, values in (("inputs", graph.inputs, inputs), ("outputs", graph.outputs, outputs))
        for spec, array in zip(specs, values, strict=True)
    }
    path = staging / "self_test.npz"
    np.savez(path, allow_pickle=False, **arrays)
    return file_spec(path)


def graph_specs(
    graphs: Mapping[GraphName, GraphTensors],
    staging: Path,
    self_test: FileSpec,
    least_shared_bytes: int = LEAST_BYTES,
) -> tuple[dict[GraphName, GraphSpec], FileSpec | None]:
    """Store the weights of graphs, which are staged as NAME.onnx, once, and divide those that share them.

    The examples of the self-test, which is staged too, tell whether a divided graph gives the same bits.

    Returns:
        The manifest's entries of the graphs, and of their weights; None if they have no large ones.
    """
    weights = staging / WEIGHTS
    stored = store_once([staging / f"{name}.onnx" for name in graphs], weights)
    specs = {
        name: GraphSpec(
            **file_spec(staging / f"{name}.onnx").model_dump(),
            inputs=tuple(graph.inputs),
            outputs=tuple(graph.outputs),
        )
        for name, graph in graphs.items()
    }
    if not stored:
        return specs, None
    with np.load(staging / self_test.file, allow_pickle=False) as examples:
        specs = divide(specs, staging, {weights.name: weights.read_bytes()}, examples, least_shared_bytes)
    return specs, file_spec(weights)


def write_mixture(path: Path, weights: Doubles, means: Floats, log_variances: Floats) -> MixturePriorSpec:
    """Write a mixture prior of M Gaussians: weights (M,), means and log-variances (M, D)."""
    np.savez(path, allow_pickle=False, weights=weights, means=means, log_variances=log_variances)
    return MixturePriorSpec(**file_spec(path).model_dump(), components=len(means))
