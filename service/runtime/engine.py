"""The engine: the sessions of one version in ONNX Runtime, their warm-up and self-test."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from timeit import repeat
from typing import Any, Final

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from service.errors import EngineFailed, InvalidVersion, OutOfMemory, ProviderUnavailable, RuntimeFailed
from service.format.manifest import Manifest
from service.format.specs import GraphSpec, StepSpec
from service.format.versions import SELF_TEST_TOLERANCE, Weights, check_self_test, read_weights
from service.numerics.noise import Arrays
from service.runtime.session import (
    PROVIDERS,
    IoBindingSession,
    Provider,
    open_session,
    operators,
    operators_elsewhere,
)

SELF_TEST_TOLERANCES: Final[dict[Provider, float]] = {"cpu": SELF_TEST_TOLERANCE, "cuda": 1e-3}
"""The largest error of the self-test on each provider, relative to `magnitude`."""
_TIMED_ROWS: Final = 8
_OUT_OF_MEMORY: Final = ("memoryerror", "bad_alloc", "bad allocation", "allocate memory", "out of memory")
"""Signs of too little memory in an error; ONNX Runtime has no exception class for that."""
_FREE_RUNNING: Final = frozenset(("If", "Loop", "Scan", "SequenceMap"))
"""Operators whose time may depend on values: one input could keep a lane, or the event loop, for ever."""

log = logging.getLogger(__name__)


class Engine:
    """The sessions of one model version, one per file of a graph or of a step, on one provider.

    `run` is safe to call from several threads. On a GPU the calls take turns, tensors use IO binding, and
    rows are padded to powers of two, so that only batch sizes that were warmed up occur; `binds` chooses this
    elsewhere too. A call has at most `max_batch_rows` rows.
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
        self._inputs: dict[str, list[str]] = {
            name: [tensor.name for tensor in graph.inputs] for name, graph in manifest.graphs.items()
        }
        weights = read_weights(folder, manifest)
        sessions: dict[str, ort.InferenceSession] = {}

        def opened(file: str) -> ort.InferenceSession:
            if file not in sessions:
                sessions[file] = _open(folder, file, weights, provider)
            return sessions[file]

        for name, graph in manifest.graphs.items():
            if self._binds:  # in steps, tensors would be copied from the device and back
                session = opened(graph.file)
                _check_signature(session, graph)
                self._runs[name] = IoBindingSession(session, provider).run
            elif len(graph.steps) > 1:
                for step in graph.steps:
                    _check_step(opened(step.file), step)
                runs = {step.file: opened(step.file).run for step in graph.steps}
                self._runs[name] = partial(graph.run_steps, runs)
            else:
                session = opened(graph.steps[0].file if graph.steps else graph.file)
                _check_signature(session, graph)
                self._runs[name] = partial(session.run, [tensor.name for tensor in graph.outputs])

    def run(self, graph: str, inputs: Arrays) -> Arrays:
        """Compute one batch: inputs and outputs (B, ...) float32, in the manifest's order.

        Raises:
            RuntimeFailed: ONNX Runtime raised an error.
            OutOfMemory: it did so for want of memory.
            EngineFailed: an output is not finite.
        """
        rows = len(inputs[0])
        if self._binds:
            inputs = tuple(_padded(array) for array in inputs)
        try:
            outputs = self._runs[graph](dict(zip(self._inputs[graph], inputs, strict=True)))
        except Exception as error:  # onnxruntime raises plain C++ status classes
            if lacks_memory(error):
                raise OutOfMemory(f"there was no memory to compute {rows} rows of {graph}") from error
            raise RuntimeFailed(f"ONNX Runtime failed on {rows} rows of {graph}") from error
        for array in outputs:
            if not np.isfinite(array).all():
                raise EngineFailed(f"{graph} gave a value that is not finite")
        return tuple([array[:rows] for array in outputs] if self._binds else outputs)

    def warm_up(self) -> dict[str, float]:
        """Run every batch size that rows are padded to, and time a small batch.

        Returns:
            Seconds per row of cost 1 in that batch, by graph; the least of three runs, because other
            processes may use the machine.
        """
        seconds: dict[str, float] = {}
        timed_rows = min(_TIMED_ROWS, self._max_batch_rows)
        for name, graph in self._manifest.graphs.items():
            if self._binds:
                for power in range((self._max_batch_rows - 1).bit_length(), -1, -1):
                    self.run(name, _examples(graph, 2**power))
            batch = _examples(graph, timed_rows)
            seconds[name] = min(repeat(partial(self.run, name, batch), number=1, repeat=3)) / timed_rows
        return seconds

    def self_test(self, folder: Path) -> None:
        """Run the example stored with the version, see `check_self_test`, with the provider's tolerance."""
        check_self_test(folder, self._manifest, self.run, SELF_TEST_TOLERANCES[self.provider])


def _open(folder: Path, file: str, weights: Weights, provider: Provider) -> ort.InferenceSession:
    """Open a session of a graph's file, which must run on the provider and must not run freely."""
    try:
        session = open_session(folder / file, weights, provider)
    except Exception as error:  # onnxruntime raises plain C++ status classes
        raise InvalidVersion(f"{file}: ONNX Runtime cannot load it: {_message(error, folder)}") from error
    if session.get_providers()[0] != PROVIDERS[provider]:
        raise ProviderUnavailable(f"{file} runs on {session.get_providers()[0]}")
    if free := _FREE_RUNNING & operators(session):
        raise InvalidVersion(
            f"{file} has {', '.join(sorted(free))}, whose time depends on values; publish a graph without "
            "control flow"
        )
    if provider == "cuda" and (elsewhere := operators_elsewhere(session, provider)):
        log.warning("%s: these run on the CPU and not on CUDA: %s", file, ", ".join(elsewhere))
    return session


def _check_step(session: ort.InferenceSession, step: StepSpec) -> None:
    inputs = [tensor.name for tensor in session.get_inputs()]
    outputs = [tensor.name for tensor in session.get_outputs()]
    if set(inputs) != step.inputs.keys() or not step.outputs.keys() <= set(outputs):
        raise InvalidVersion(
            f"{step.file} maps {inputs} to {outputs}, a step of the manifest says {[*step.inputs]} to "
            f"{[*step.outputs]}"
        )


def _check_signature(session: ort.InferenceSession, graph: GraphSpec) -> None:
    inputs, outputs = session.get_inputs(), session.get_outputs()
    if graph.steps:  # its only step may give more
        outputs = outputs[: len(graph.outputs)]
    got = [tensor.name for tensor in inputs], [tensor.name for tensor in outputs]
    want = [tensor.name for tensor in graph.inputs], [tensor.name for tensor in graph.outputs]
    if got != want:
        raise InvalidVersion(
            f"{graph.file} maps {got[0]} to {got[1]}, the manifest says {want[0]} to {want[1]}"
        )
    for tensor, node in zip((*graph.inputs, *graph.outputs), (*inputs, *outputs), strict=True):
        if node.type != "tensor(float)":
            raise InvalidVersion(
                f"{graph.file}: {tensor.name} is a {node.type}, the manifest says {tensor.dtype}"
            )
    for tensor, node in zip(graph.inputs, inputs, strict=True):  # the self-test shows the outputs'
        declared = node.shape or tensor.shape  # ONNX Runtime need not know the shape
        sizes = zip(tensor.shape, declared, strict=False)
        conflict = any(isinstance(a, int) and isinstance(b, int) and a != b for a, b in sizes)
        if conflict or len(declared) != len(tensor.shape):
            raise InvalidVersion(
                f"{graph.file}: {tensor.name} is {list(declared)}, the manifest says {list(tensor.shape)}"
            )


def _message(error: Exception, folder: Path) -> str:
    """Return ONNX Runtime's message in a line of at most 300 characters, without this machine's folder."""
    if "InjectExternalInitializers" in str(error):
        return "its weights are not where it says in the file of weights that the manifest names"
    if "xternal data" in str(error):
        return "its weights are in a file that the manifest does not name"
    text = str(error).split(" : ", 2)[-1].replace(f"{folder}/", "")
    return " ".join(text.split())[:300] or type(error).__name__


def lacks_memory(error: BaseException | None) -> bool:
    """Return True if an error or one of its causes tells of too little memory."""
    while error is not None:
        text = f"{type(error).__name__}: {error}".lower()
        if isinstance(error, OutOfMemory) or any(sign in text for sign in _OUT_OF_MEMORY):
            return True
        error = error.__cause__
    return False


def _padded(array: NDArray[Any]) -> NDArray[Any]:
    """Repeat the last row until the number of rows is a power of two."""
    missing = 2 ** (len(array) - 1).bit_length() - len(array)
    return np.concatenate((array, np.repeat(array[-1:], missing, axis=0))) if missing else array


def _examples(graph: GraphSpec, rows: int) -> Arrays:
    free = {"rows": rows, "draws": 1}
    examples = []
    for tensor in graph.inputs:
        shape = [free[axis] if isinstance(axis, str) else axis for axis in tensor.shape]
        examples.append(np.full(shape, 0.5, np.float32))  # any graph can compute with 0.5
    return tuple(examples)
