"""ONNX Runtime: the sessions, the warm-up and the self-test of one model version."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from service.errors import EngineFailed, InvalidVersion, ProviderUnavailable
from service.format.manifest import GraphSpec, Manifest
from service.format.versions import magnitude
from service.numerics.noise import Arrays
from service.runtime.session import PROVIDERS, BoundSession, Provider, open_session, operators_elsewhere

_SELF_TEST_TOLERANCE: Final[dict[Provider, float]] = {"cpu": 1e-4, "cuda": 1e-3}
_TIMED_ROWS: Final = 8
_LONGEST_TOLD: Final = 300
"""Characters of what ONNX Runtime says of a graph."""

log = logging.getLogger(__name__)


class Engine:
    """The sessions of one model version, one per graph, on one provider.

    `run` is safe to call from several threads; on a device they take turns. There rows are padded to powers
    of two, so that the sizes met in traffic are those that were warmed, and tensors are bound.

    Args:
        folder: The version's.
        manifest: The version's.
        provider: Where its graphs run.
        max_batch_rows: Of a call.
        binds: Whether to run as on a device; by default where there is one.
    """

    def __init__(
        self,
        folder: Path,
        manifest: Manifest,
        provider: Provider,
        max_batch_rows: int,
        *,
        binds: bool | None = None,
    ) -> None:
        self.provider = provider
        self._manifest = manifest
        self._max_batch_rows = max_batch_rows
        self._binds = provider == "cuda" if binds is None else binds
        self._runs: dict[str, Callable[[dict[str, NDArray[Any]]], list[NDArray[Any]]]] = {}
        for name, graph in manifest.graphs.items():
            try:
                session = open_session(folder / graph.file, provider)
            except Exception as error:  # onnxruntime raises plain C++ status classes
                raise InvalidVersion(
                    f"{graph.file}: ONNX Runtime cannot load it: {_told(error, folder)}"
                ) from error
            if session.get_providers()[0] != PROVIDERS[provider]:
                raise ProviderUnavailable(f"{graph.file} runs on {session.get_providers()[0]}")
            _check_signature(session, graph)
            if provider == "cuda" and (elsewhere := operators_elsewhere(session, provider)):
                log.warning("%s: these run on the CPU and not on CUDA: %s", graph.file, ", ".join(elsewhere))
            if self._binds:
                self._runs[name] = BoundSession(session, provider).run
            else:
                self._runs[name] = partial(session.run, [tensor.name for tensor in graph.outputs])

    def run(self, graph: str, inputs: Arrays) -> Arrays:
        """Computes one batch: inputs in the manifest's order, (B, ...) float32, outputs likewise.

        Raises:
            EngineFailed: ONNX Runtime refused the batch, or an output is not finite.
        """
        spec = self._manifest.graphs[graph]  # type: ignore[index]  # names come from the manifest
        rows = len(inputs[0])
        if self._binds:
            inputs = tuple(_padded(array, _bucket(rows)) for array in inputs)
        feeds = {tensor.name: array for tensor, array in zip(spec.inputs, inputs, strict=True)}
        try:
            outputs = self._runs[graph](feeds)
        except Exception as error:  # onnxruntime raises plain C++ status classes
            raise EngineFailed(f"ONNX Runtime failed on {rows} rows of {graph}") from error
        if not all(_all_finite(array) for array in outputs):
            raise EngineFailed(f"{graph} gave a value that is not finite")
        return tuple(array[:rows] for array in outputs)

    def warm_up(self) -> dict[str, float]:
        """Runs every batch size that will be padded to, or a small one, and times the latter.

        Returns:
            Seconds that a row of cost 1 takes among others, by graph: the least of three, since others may
            use the machine.
        """
        seconds: dict[str, float] = {}
        timed_rows = min(_TIMED_ROWS, self._max_batch_rows)
        for name, graph in self._manifest.graphs.items():
            for rows in _buckets(self._max_batch_rows) if self._binds else ():
                self.run(name, _examples(graph, rows))
            batch = _examples(graph, timed_rows)
            seconds[name] = min(_seconds(partial(self.run, name, batch)) for _ in range(3)) / timed_rows
        return seconds

    def self_test(self, folder: Path) -> None:
        """Runs the example stored with the version and compares.

        Raises:
            InvalidVersion: an output is further from the stored one than the provider's tolerance.
        """
        with np.load(folder / self._manifest.self_test.file, allow_pickle=False) as stored:
            example = dict(stored)
        for name, graph in self._manifest.graphs.items():
            try:
                inputs = tuple(example[f"{name}.inputs.{tensor.name}"] for tensor in graph.inputs)
                expected = tuple(example[f"{name}.outputs.{tensor.name}"] for tensor in graph.outputs)
            except KeyError as error:
                raise InvalidVersion(f"the self-test lacks {error}") from error
            outputs = self.run(name, inputs)
            _check_shapes(graph, inputs, outputs)
            for tensor, got, want in zip(graph.outputs, outputs, expected, strict=True):
                if got.shape != want.shape:
                    raise InvalidVersion(
                        f"{name}.{tensor.name} is {list(got.shape)} on the stored example, which says "
                        f"{list(want.shape)}"
                    )
                gap = float(np.max(np.abs(got - want) / magnitude(tensor.name, want)))
                if not gap <= _SELF_TEST_TOLERANCE[self.provider]:
                    raise InvalidVersion(
                        f"{name}.{tensor.name} is off by {gap:.1e} of the stored example on "
                        f"{self.provider}; at most {_SELF_TEST_TOLERANCE[self.provider]:.0e} is allowed"
                    )


def _check_signature(session: ort.InferenceSession, graph: GraphSpec) -> None:
    got = [tensor.name for tensor in session.get_inputs()], [tensor.name for tensor in session.get_outputs()]
    want = [tensor.name for tensor in graph.inputs], [tensor.name for tensor in graph.outputs]
    if got != want:
        raise InvalidVersion(
            f"{graph.file} maps {got[0]} to {got[1]}, the manifest says {want[0]} to {want[1]}"
        )
    for tensor, declared in zip(
        graph.inputs, (node.shape or () for node in session.get_inputs()), strict=True
    ):
        sizes = zip(tensor.shape, declared, strict=False)
        conflict = any(
            isinstance(one, int) and isinstance(other, int) and one != other for one, other in sizes
        )
        if declared and (conflict or len(declared) != len(tensor.shape)):
            raise InvalidVersion(
                f"{graph.file}: {tensor.name} is {list(declared)}, the manifest says {list(tensor.shape)}"
            )


def _check_shapes(graph: GraphSpec, inputs: Arrays, outputs: Arrays) -> None:
    """Raises InvalidVersion unless all tensors have the manifest's shapes, each free axis alike in all."""
    sizes: dict[str, int] = {}
    tensors = zip((*graph.inputs, *graph.outputs), (*inputs, *outputs), strict=True)
    for tensor, array in tensors:
        for axis, size in zip(tensor.shape, array.shape, strict=False):
            if isinstance(axis, str):
                sizes.setdefault(axis, size)
        if array.shape != (shape := tuple(sizes.get(str(axis), axis) for axis in tensor.shape)):
            raise InvalidVersion(
                f"{graph.file}: {tensor.name} is {list(array.shape)}, the manifest says {list(shape)}"
            )


def _told(error: Exception, folder: Path) -> str:
    """What ONNX Runtime says, in one line that is not long and names no folder of this machine."""
    text = str(error).split(" : ", 2)[-1].replace(f"{folder}/", "")
    return " ".join(text.split())[:_LONGEST_TOLD] or type(error).__name__


def _all_finite(array: NDArray[Any]) -> bool:
    with np.errstate(over="ignore", invalid="ignore"):  # a sum costs no array, but it may overflow float32
        return math.isfinite(array.sum()) or bool(np.isfinite(array).all())


def _bucket(rows: int) -> int:
    return 1 << (rows - 1).bit_length()


def _buckets(max_rows: int) -> list[int]:
    return [1 << power for power in range((max_rows - 1).bit_length(), -1, -1)]


def _padded(array: NDArray[Any], rows: int) -> NDArray[Any]:
    missing = rows - len(array)
    return np.concatenate((array, np.repeat(array[-1:], missing, axis=0))) if missing else array


def _examples(graph: GraphSpec, rows: int) -> Arrays:
    free = {"rows": rows, "draws": 1}
    shapes = [
        tuple(free[axis] if isinstance(axis, str) else axis for axis in tensor.shape)
        for tensor in graph.inputs
    ]
    return tuple(np.tile(np.float32(0.5), shape) for shape in shapes)  # a number any graph computes with


def _seconds(work: Callable[[], object]) -> float:
    started_at = time.perf_counter()
    work()
    return time.perf_counter() - started_at
