"""The graphs of models that others trained: their operations, built of ONNX nodes and checked.

Shapes: B rows (free, the axis "rows"), K draws (free, "draws"), D latent dimensions; items (B, *item).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx
import onnxruntime

from service.format.specs import GraphName, Parity, TensorSpec
from service.numerics.noise import Floats
from training.export.own.algebra import GraphAlgebra, NumpyAlgebra
from training.export.own.formulas import Formula, OwnGan, OwnVae
from training.export.rules import check_graph
from training.export.sessions import (
    PARITY_BATCHES,
    PARITY_TOLERANCE,
    ParityError,
    open_session,
    relative_error,
    run_graph,
    tensor,
)

Example = Callable[[TensorSpec, int, int], Floats]
"""Makes an input of a graph, of so many rows, from a seed."""
_UNSETTLED = 1e-4
"""Distance of a uniform from a probability below which a discrete draw depends on the last digits."""
_SEEDS = (0, 1, 2)


@dataclass(frozen=True)
class OwnGraph:
    """One operation of a model, as a graph in a session and as the formula that it is compared with."""

    name: GraphName
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    formula: Formula
    model: onnx.ModelProto
    session: onnxruntime.InferenceSession
    judge: Formula | None = None
    """Maps the first output to the second; None if the second has another origin."""

    def run(self, inputs: Sequence[Floats]) -> tuple[Floats, ...]:
        """Run the graph on inputs in its order; returns the outputs in its order."""
        return run_graph(self.session, self, inputs)


Specs = tuple[TensorSpec, ...]
"""The inputs or outputs of a graph."""


def build(
    name: GraphName, formula: Formula, inputs: Specs, outputs: Specs, opset: int, classes: int = 0
) -> OwnGraph:
    """Build a formula's graph and open a session of it; with classes, it takes the class of each row too.

    Raises:
        GraphError: The graph breaks a rule.
    """
    if classes:
        inputs = (*inputs, tensor("labels", "rows", classes))
    f = GraphAlgebra(opset)
    results = formula(f, *(f.input(spec.name, spec.shape) for spec in inputs))
    for spec, value in zip(outputs, results, strict=True):
        f.output(spec.name, value, spec.shape)
    model = f.build(name)
    check_graph(name, model)
    return OwnGraph(name, inputs, outputs, formula, model, open_session(model.SerializeToString()))


def vae_graphs(vae: OwnVae, opset: int) -> dict[GraphName, OwnGraph]:
    """Build the graphs of a VAE whose networks are exported; `statistics` only if it has some."""
    items, D, per_draw = ("rows", *vae.units.item_shape), vae.latent, ("rows", "draws")
    inputs, samples, uniforms = (tensor(name, *items) for name in ("inputs", "samples", "uniforms"))
    latents, eps = tensor("latents", "rows", D), tensor("eps", *per_draw, D)
    terms = tuple(tensor(name, *per_draw) for name in ("log_likelihood", "log_prior", "log_posterior"))
    posterior = (tensor("mean", "rows", D), tensor("log_variance", "rows", D))
    wanted: list[tuple[GraphName, Formula, Specs, Specs]] = [
        ("encode", vae.posterior, (inputs,), posterior),
        ("decode", vae.decode, (latents,), (samples,)),
        ("draw", vae.draw, (latents, uniforms), (samples,)),
        ("score", vae.score, (inputs, eps), (*terms, tensor("kl", "rows"))),
        ("map", vae.surprise_map, (inputs,), (tensor("map", *items),)),
    ]
    graphs = {each[0]: build(*each, opset, vae.classes) for each in wanted}
    if vae.statistics:
        graphs["statistics"] = statistics_graph(vae, opset)
    return graphs


def statistics_graph(vae: OwnVae, opset: int) -> OwnGraph:
    """Build the graph of the noise-free statistics of a VAE that has some."""
    inputs = tensor("inputs", "rows", *vae.units.item_shape)
    columns = tensor("statistics", "rows", len(vae.statistics))
    return build("statistics", vae.noise_free, (inputs,), (columns,), opset, vae.classes)


def path_features(vae: OwnVae, opset: int) -> OwnGraph:
    """Build the graph of the features of `path`, which is fitted on its outputs and never published."""
    inputs, features = tensor("inputs", "rows", *vae.units.item_shape), tensor("statistics", "rows", 5)
    return build("statistics", vae.features, (inputs,), (features,), opset, vae.classes)


def gan_graphs(gan: OwnGan, opset: int) -> dict[GraphName, OwnGraph]:
    """Build the graphs of a GAN whose networks are exported, each for which it has the networks."""
    items, D = ("rows", *gan.units.item_shape), gan.latent
    inputs, samples = tensor("inputs", *items), tensor("samples", *items)
    latents, logit = tensor("latents", "rows", D), tensor("logit", "rows")
    wanted: list[tuple[GraphName, Formula, Specs, Specs]] = [("decode", gan.decode, (latents,), (samples,))]
    if gan.encoder is not None:
        wanted += [
            ("encode", gan.encode, (inputs,), (tensor("mean", "rows", D),)),
            ("statistics", gan.noise_free, (inputs,), (tensor("statistics", "rows", 1),)),
        ]
    if gan.discriminator is not None:
        wanted += [
            ("discriminate", gan.discriminate, (inputs,), (logit,)),
            ("generate_scored", gan.generate_scored, (latents,), (samples, logit)),
        ]
    graphs = {each[0]: build(*each, opset, gan.classes) for each in wanted}
    if "generate_scored" in graphs:
        graphs["generate_scored"] = replace(graphs["generate_scored"], judge=gan.discriminate)
    return graphs


def measure_parity(graph: OwnGraph, example: Example, discrete: bool, largest: float) -> Parity:
    """Compare a graph with its formula, and each row across batch sizes and places.

    `discrete` says whether draws are, whose last digits then decide between two values; `largest` is the
    error of the exported networks, which the formula is made of.

    Raises:
        ParityError: They differ by more than the tolerance; the message names the output and the error.
    """
    rows_apart = 0.0
    for seed in _SEEDS:
        most = [example(spec, max(PARITY_BATCHES), seed) for spec in graph.inputs]
        whole = graph.run(most)
        _require_finite(graph, whole)
        reverse = graph.run([np.ascontiguousarray(array[::-1]) for array in most])
        expected = graph.formula(NumpyAlgebra(), *(array.astype(np.float64) for array in most))
        unsettled = _unsettled(graph, most) if discrete and graph.name == "draw" else None
        if graph.judge is not None:
            # a logit is that of the sample that the graph gave, whose last digit it may magnify
            seen = (whole[0], *most[1:])
            expected = (
                expected[0],
                *graph.judge(NumpyAlgebra(), *(array.astype(np.float64) for array in seen)),
            )
        pairs = list(zip(graph.outputs, whole, strict=True))
        for (spec, ours), theirs in zip(pairs, expected, strict=True):
            agreed = theirs if unsettled is None else np.where(unsettled, ours, theirs)
            error = relative_error(spec.name, ours, agreed, like=ours)
            _require(graph, spec, error, "ONNX Runtime and the model's own networks differ")
            largest = max(largest, error)
        for (spec, ours), there in zip(pairs, reverse, strict=True):
            rows_apart = max(rows_apart, _apart(graph, spec, there[::-1], ours, ours))
        for rows in PARITY_BATCHES[:-1]:
            # from the middle, so that a row has another place than in the whole
            start = (max(PARITY_BATCHES) - rows) // 2
            part = graph.run([array[start : start + rows].copy() for array in most])
            for (spec, ours), there in zip(pairs, part, strict=True):
                rows_apart = max(rows_apart, _apart(graph, spec, there, ours[start : start + rows], ours))
    return Parity(
        largest_error=largest,
        tolerance=PARITY_TOLERANCE,
        batches=PARITY_BATCHES,
        largest_row_error=rows_apart,
    )


def _apart(graph: OwnGraph, spec: TensorSpec, there: Floats, here: Floats, like: Floats) -> float:
    """Return how far the same rows of two batches are apart: 0 if they are equal bit for bit."""
    if np.array_equal(there, here):
        return 0.0
    error = relative_error(spec.name, there, here, like=like)
    _require(graph, spec, error, "a row depends on its batch-mates: its results in two batches differ")
    return error


def _require_finite(graph: OwnGraph, outputs: Sequence[Floats]) -> None:
    for spec, values in zip(graph.outputs, outputs, strict=True):
        count = int((~np.isfinite(values)).sum())
        if count:
            raise ParityError(
                f"graph {graph.name}, output {spec.name}: {count} values are NaN or infinite; look for "
                "log-variances or logits of hundreds, and say by `values` what range the items have"
            )


def _require(graph: OwnGraph, spec: TensorSpec, error: float, what: str) -> None:
    if not error <= PARITY_TOLERANCE:
        raise ParityError(
            f"graph {graph.name}, output {spec.name}: {what}, by {error:.1e} (1 + |value|); at most "
            f"{PARITY_TOLERANCE:.0e} is allowed"
        )


def _unsettled(graph: OwnGraph, inputs: Sequence[Floats]) -> np.ndarray:
    """Return True for values whose draw changes if its uniform does by a ten thousandth."""
    latents, uniforms, *labels = (array.astype(np.float64) for array in inputs)
    above, below = (
        graph.formula(NumpyAlgebra(), latents, (uniforms + change).clip(1e-6, 1 - 1e-6), *labels)[0]
        for change in (_UNSETTLED, -_UNSETTLED)
    )
    return np.asarray(above != below)
