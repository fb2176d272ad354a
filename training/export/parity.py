"""Check that exported graphs compute what the model computes: parity with torch, and the stored self-test.

Shapes: B rows, K draws, D latent dimensions; items (B, *item).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
import onnxruntime
import torch
from torch import Tensor

from service.format.specs import Parity
from service.numerics.noise import Floats
from training.data import Dataset
from training.data.batches import cores_at_hand
from training.export.graphs import Graph, example_inputs
from training.export.sessions import PARITY_BATCHES, PARITY_TOLERANCE, ParityError, relative_error, run_graph
from training.models.vae import Vae

_WAY_OUT = (
    "in a graph, sums are taken by `item_sum` and logarithms by `in_lanes` of training.models.likelihoods"
)
_DRAWS = 3
_SELF_TEST_ROWS = 2
_UNSETTLED = 1e-4
"""Relative and absolute change of a likelihood's parameters that must not change a discrete draw."""
_SETTLING_ROUNDS = 30


@dataclass(frozen=True)
class Exported:
    """An exported graph with its session on the CPU."""

    graph: Graph
    session: onnxruntime.InferenceSession

    def run(self, inputs: Sequence[Floats]) -> tuple[Floats, ...]:
        """Run the graph on inputs in its order; returns the outputs in its order."""
        return run_graph(self.session, self.graph, inputs)


def measure_parity(exported: Exported, dataset: Dataset) -> Parity:
    """Compare a graph with torch at every batch size, and each row across batch sizes and places.

    Raises:
        ParityError: They differ; the message names the output, the number of rows and the error.
    """
    largest = 0.0
    for seed, real in ((0, False), (1, True), (2, True)):
        most = _inputs(exported.graph, dataset, max(PARITY_BATCHES), seed, real)
        # from the middle, so that a row has another place than in the whole
        starts = [(max(PARITY_BATCHES) - rows) // 2 for rows in PARITY_BATCHES]
        places = [slice(start, start + rows) for start, rows in zip(starts, PARITY_BATCHES, strict=True)]
        parts = [[tensor[place].clone() for tensor in most] for place in places[:-1]]
        backwards = [np.ascontiguousarray(tensor.numpy()[::-1]) for tensor in most]
        with _one_thread_each(), ThreadPoolExecutor(cores_at_hand()) as threads:
            results = threads.map(partial(_by_both, exported), (most, *parts))
            reverse = threads.submit(exported.run, backwards).result()
        of_whole, *of_parts = results
        whole, _ = of_whole
        _check_places(exported.graph, reverse, whole)
        compared = zip(PARITY_BATCHES, places, (*of_parts, of_whole), strict=True)
        for rows, place, (got, expected) in compared:
            for spec, ours, theirs, all_rows in zip(
                exported.graph.outputs, got, expected, whole, strict=True
            ):
                error = relative_error(spec.name, ours, theirs.numpy(), like=all_rows)
                where = f"graph {exported.graph.name}, output {spec.name}, {rows} rows"
                if not error <= PARITY_TOLERANCE:
                    raise ParityError(
                        f"{where}: ONNX Runtime and torch differ by {error:.1e} (1 + |value|), "
                        f"at most {PARITY_TOLERANCE:.0e} is allowed; look for values that cancel in float32"
                    )
                if not np.array_equal(ours, all_rows[place]):
                    raise ParityError(
                        f"{where}: a row's result depends on how many rows stand beside it; {_WAY_OUT}"
                    )
                largest = max(largest, error)
    return Parity(largest_error=largest, tolerance=PARITY_TOLERANCE, batches=PARITY_BATCHES)


@contextlib.contextmanager
def _one_thread_each() -> Iterator[None]:
    """Have torch compute each call by one thread, as ONNX Runtime does: threads that wait for others spin."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _by_both(exported: Exported, inputs: Sequence[Tensor]) -> tuple[tuple[Floats, ...], tuple[Tensor, ...]]:
    """Compute the outputs with ONNX Runtime, and with torch."""
    got = exported.run([tensor.numpy() for tensor in inputs])
    return got, _expected(exported.graph, inputs, got)


def _expected(graph: Graph, inputs: Sequence[Tensor], got: Sequence[Floats]) -> tuple[Tensor, ...]:
    """Compute the outputs with torch; a logit is computed from the sample that the graph gave.

    If modes are 0.01 wide, the last digit of a sample changes its logit by 1e-5 nats, which is no error.
    """
    with torch.no_grad():
        outputs = graph.module(*inputs)
        if graph.judge is not None:
            return outputs[0], graph.judge(torch.from_numpy(got[0]), *inputs[1:])
    return outputs if isinstance(outputs, tuple) else (outputs,)


def _check_places(graph: Graph, reverse: Sequence[Floats], outputs: Sequence[Floats]) -> None:
    """Compare with outputs of the rows in reverse order, where each has another place in memory."""
    for spec, there, here in zip(graph.outputs, reverse, outputs, strict=True):
        if not np.array_equal(there[::-1], here):
            raise ParityError(
                f"graph {graph.name}, output {spec.name}: a row's result depends on its place in the batch; "
                f"{_WAY_OUT}"
            )


def example_of(exported: Exported, dataset: Dataset) -> tuple[Graph, list[Floats], tuple[Floats, ...]]:
    """Return a graph with example inputs and outputs for its self-test."""
    inputs = [t.numpy() for t in _inputs(exported.graph, dataset, _SELF_TEST_ROWS, seed=0, real=True)]
    return exported.graph, inputs, exported.run(inputs)


def _inputs(graph: Graph, dataset: Dataset, rows: int, seed: int, real: bool) -> list[Tensor]:
    tensors = list(example_inputs(graph, rows, _DRAWS, seed))
    model = graph.module.model
    support = model.support
    for index, spec in enumerate(graph.inputs):
        if spec.name == "inputs" and (real or support == "real"):
            chosen = np.arange(seed * rows, (seed + 1) * rows) % len(dataset.items["test"])
            tensors[index] = torch.from_numpy(dataset.items["test"][chosen])
        elif spec.name == "inputs" and support == "binary":
            tensors[index] = tensors[index].round()
    if graph.name == "draw" and isinstance(model, Vae) and support != "unit_interval":
        if graph.inputs[-1].name == "labels":
            model = model.given(tensors[-1])
        tensors[1] = _settled_uniforms(model, tensors[0], tensors[1], dataset)
    return tensors


def _settled_uniforms(vae: Vae, latents: Tensor, uniforms: Tensor, dataset: Dataset) -> Tensor:
    """Replace the uniforms for which a discrete draw depends on the last digits of its parameters.

    With these another processor may draw the neighbouring level, which is no error of the graph. A row of a
    table is drawn again as a whole, since a category depends on the uniform of another feature; a value of a
    picture by itself.
    """
    generator = torch.Generator().manual_seed(0)
    discrete = torch.tensor(
        [bool(column.categories) for column in dataset.columns for _ in range(column.features)] or [True]
    )
    with torch.no_grad():
        parameters, axis, settled = vae.decode(latents), 0, uniforms.clone()
        per_value = vae.likelihood.parameters_per_value
        if not dataset.columns:  # all values of all rows in one long row
            parameters = parameters.reshape(len(latents), per_value, -1).transpose(0, 1)
            parameters, axis, settled = parameters.reshape(1, per_value, -1), 2, settled.reshape(1, 1, -1)
        first = torch.arange(parameters.shape[1]) < parameters.shape[1] / per_value
        first = first.float().reshape(-1, *[1] * (parameters.dim() - 2))
        pending = torch.arange(settled.shape[axis])
        for _ in range(_SETTLING_ROUNDS):
            some, theirs = (each.index_select(axis, pending) for each in (parameters, settled))
            draws = []
            for sign, other in ((1, 1), (1, -1), (-1, 1), (-1, -1)):
                change = _UNSETTLED * (sign * first + other * (1 - first))
                draws.append(vae.likelihood.draw(some * (1 + change) + change, theirs))
            unsettled = torch.stack([draw != draws[0] for draw in draws]).any(0) & discrete
            pending = pending[unsettled.movedim(axis, 0).flatten(1).any(1)]
            if not len(pending):
                break
            shape = (*settled.shape[:axis], len(pending), *settled.shape[axis + 1 :])
            others = torch.rand(shape, generator=generator).clamp(1e-6, 1 - 1e-6)
            settled.index_copy_(axis, pending, others)
    return settled.reshape(uniforms.shape)
