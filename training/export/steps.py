"""Divide the graphs of a version into steps, so that each weight is in memory once.

ONNX Runtime packs the weights of each session anew, and the graph `score` has the encoder and the decoder of
the graphs `encode` and `decode` in it, as others have. Such a graph is divided: its encoder and its decoder
become steps that run in the sessions of `encode` and `decode`, and what is left becomes steps of its own.

A part of a graph is found by its structure: operators, attributes and constants. A *shared* graph is one
whose part others have; an *occurrence* is that part in one of them.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import onnx
from onnx.external_data_helper import uses_external_data

from service.format.specs import Floats, GraphName, GraphSpec, StepSpec
from service.format.versions import Weights, sha256_of
from training.export.sessions import open_session, run_graph

_ROWS: Final = (1, 2, 7)
"""The batches in which steps must give the same bits as the whole graph."""
SHARED: Final[tuple[GraphName, ...]] = ("encode", "decode", "discriminate")
"""The graphs whose parts are looked for in the others."""
_SHORT_TAIL: Final = 8
"""Most nodes behind the last weights that a step computes in vain, for the sake of the shared graph's own
outputs: ONNX Runtime computes all, whatever is asked for. With more of them the graph runs apart."""
LEAST_BYTES: Final = 2**23
"""A graph that shares fewer bytes of weights stays whole: each step takes some 20 microseconds, which a large
model does not feel."""


@dataclass
class _Step:
    """A step while a graph is divided, see `StepSpec`."""

    file: str
    inputs: dict[str, str]
    outputs: dict[str, str]
    shared: GraphName | None = None
    """The shared graph that it runs; None for a graph of its own."""

    def spec(self, folder: Path) -> StepSpec:
        """Return the manifest's entry of the step, whose file is written."""
        return StepSpec(
            file=self.file,
            sha256=sha256_of(folder / self.file),
            inputs=self.inputs,
            outputs=dict(sorted(self.outputs.items())),
        )


class _Graph:
    """A graph and its structure: what makes each tensor, and which constants are equal."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self.nodes = list(model.graph.node)
        self.inputs = [each.name for each in model.graph.input]
        self.outputs = [each.name for each in model.graph.output]
        self.constants = {each.name: _content(each) for each in model.graph.initializer}
        self.large = {
            each.name: _length(each) for each in model.graph.initializer if uses_external_data(each)
        }
        self.maker = {name: (node, place) for node in self.nodes for place, name in enumerate(node.output)}
        typed = onnx.shape_inference.infer_shapes(model).graph
        self.types = {each.name: each for each in (*typed.value_info, *typed.input, *typed.output)}

    @property
    def weighted(self) -> Iterator[onnx.NodeProto]:
        """Yield the nodes that read a large weight, the last ones first."""
        return (node for node in reversed(self.nodes) if self.large.keys() & {*node.input})

    @property
    def tail(self) -> int:
        """Return the number of nodes behind the last weights."""
        last = self.above(name for node in self.weighted for name in node.output)
        return sum(not last & {*node.output} for node in self.nodes)

    def is_float(self, tensor: str) -> bool:
        """Return True if a tensor is known to be float32."""
        found = self.types.get(tensor)
        return found is not None and found.type.tensor_type.elem_type == onnx.TensorProto.FLOAT

    def above(self, tensors: Iterable[str], known: Iterable[str] = ()) -> set[str]:
        """Return tensors and what they are made of, up to inputs and to tensors that are known."""
        found, pending, known = set[str](), list(tensors), {*known}
        while pending:
            tensor = pending.pop()
            if tensor in found:
                continue
            found.add(tensor)
            if tensor in self.maker and tensor not in known:
                pending += [name for name in self.maker[tensor][0].input if name]
        return found

    def below(self, tensors: Iterable[str]) -> set[str]:
        """Return the tensors that are made of these."""
        found = {*tensors}
        for node in self.nodes:  # in topological order, as ONNX demands
            if found & {*node.input}:
                found |= {*node.output}
        return found.difference(tensors)


def _content(tensor: onnx.TensorProto) -> bytes:
    """Return bytes that are equal for equal constants; large ones are stored once, so their place tells."""
    nameless = copy.deepcopy(tensor)
    nameless.ClearField("name")
    content: bytes = nameless.SerializeToString(deterministic=True)
    return content


def _length(tensor: onnx.TensorProto) -> int:
    return next(int(entry.value) for entry in tensor.external_data if entry.key == "length")


@dataclass
class _Occurrence:
    """A part of a shared graph in another graph."""

    name: GraphName
    shared: _Graph
    tensors: dict[str, str]
    """The tensor of the other graph for each of the shared one."""
    given: dict[str, str] = field(default_factory=dict)
    """The tensors of the other graph that a step can give, each with its name in the shared one."""

    @property
    def weights(self) -> set[str]:
        """Return the large weights of the other graph that are in it."""
        return {self.tensors[name] for name in self.shared.large if name in self.tensors}


def divide(
    specs: Mapping[GraphName, GraphSpec],
    folder: Path,
    weights: Weights,
    examples: Mapping[str, Floats],
    least_bytes: int = LEAST_BYTES,
) -> dict[GraphName, GraphSpec]:
    """Divide graphs that share weights, and write the graphs of their steps beside them.

    Graphs that share too little stay as they are. A shared graph whose part gives more than it does itself
    runs as that part, a single step, if that costs nothing.

    Args:
        specs: The graphs, whose large weights are stored once.
        folder: The staged version.
        weights: Its file of weights.
        examples: Inputs of each graph, as in a self-test.
        least_bytes: The weights that a graph must share to be divided.

    Returns:
        The graphs with their steps. One whose steps gave other bits is as it was.
    """
    divided = {
        name: specs[name].model_copy(update={"steps": tuple(step.spec(folder) for step in steps)})
        for name, steps in _divided(specs, folder, least_bytes).items()
    }
    agreeing = {name: spec for name, spec in divided.items() if _agree(name, spec, folder, weights, examples)}
    if any(name in SHARED for name in divided.keys() - agreeing.keys()):  # others run their steps
        agreeing = {}
    result = {**specs, **agreeing}
    kept = {file for spec in result.values() for file in spec.files}
    for file in {file for spec in divided.values() for file in spec.files} - kept:
        (folder / file).unlink()
    return result


def _agree(
    name: GraphName, spec: GraphSpec, folder: Path, weights: Weights, examples: Mapping[str, Floats]
) -> bool:
    """Return True if the steps of a graph give the same bits as the whole."""
    whole = open_session(folder / spec.file, weights)
    runs = {step.file: open_session(folder / step.file, weights).run for step in spec.steps}
    for rows in _ROWS:
        feeds = {
            tensor.name: np.resize(each, (rows, *each.shape[1:]))
            for tensor in spec.inputs
            for each in [examples[f"{name}.inputs.{tensor.name}"]]
        }
        pairs = zip(run_graph(whole, spec, [*feeds.values()]), spec.run_steps(runs, feeds), strict=True)
        if not all(np.array_equal(*pair) for pair in pairs):
            return False
    return True


def _divided(names: Iterable[GraphName], folder: Path, least_bytes: int) -> dict[GraphName, list[_Step]]:
    """Return the steps of the graphs that have some."""
    graphs = {name: _Graph(onnx.load(folder / f"{name}.onnx", load_external_data=False)) for name in names}
    shared = {name: graphs[name] for name in SHARED if name in graphs}
    divided: dict[GraphName, list[_Step]] = {}
    for name, graph in graphs.items():
        found = [] if name in shared else _occurrences(graph, shared)
        if sum(graph.large[weight] for weight in {w for each in found for w in each.weights}) >= least_bytes:
            divided[name] = _steps(name, graph, found, folder)
    steps = [step for found in divided.values() for step in found]
    for name, graph in shared.items():
        of_this = [step for step in steps if step.shared == name]
        given = sorted({each for step in of_this for each in step.outputs})
        if not set(given) - set(graph.outputs):
            continue
        path = folder / f"{name}.shared.onnx"
        if graph.tail <= _SHORT_TAIL:
            given = list(dict.fromkeys((*graph.outputs, *given)))
            inputs, outputs = ({each: each for each in some} for some in (graph.inputs, graph.outputs))
            divided[name] = [_Step(path.name, inputs, outputs, name)]
        _write_part(graph, graph.inputs, given, path)
        for step in of_this:
            step.file = path.name
    return divided


def _occurrences(graph: _Graph, shared: Mapping[GraphName, _Graph]) -> list[_Occurrence]:
    """Find the parts of shared graphs in a graph, in the order in which they can run."""
    found: list[_Occurrence] = []
    for name, other in shared.items():
        parts: list[dict[str, str]] = []
        for node in other.weighted:
            for candidate in graph.weighted:
                _collect(parts, other, node.output[0], graph, candidate.output[0])
        # without all of its inputs a step cannot run
        whole = [part for part in parts if part.keys() >= {*other.inputs}]
        found += [_Occurrence(name, other, part) for part in whole]
    for each in found:
        each.given = _given(each, graph)
    order = {output: place for place, node in enumerate(graph.nodes) for output in node.output}
    useful = [each for each in found if each.given]
    return sorted(useful, key=lambda each: min(order[tensor] for tensor in each.given))


def _collect(parts: list[dict[str, str]], shared: _Graph, own: str, graph: _Graph, other: str) -> None:
    """Add a tensor and what it is made of to the part that it fits, or as a new one, if it is alike."""
    if any(part.get(own) == other for part in parts):
        return
    for place, part in enumerate(parts):
        if (unified := _unified(shared, own, graph, other, part)) is not None:
            parts[place] = unified
            return
    if (unified := _unified(shared, own, graph, other, {})) is not None:
        parts.append(unified)


def _unified(
    shared: _Graph, own: str, graph: _Graph, other: str, known: Mapping[str, str]
) -> dict[str, str] | None:
    """Return the tensor of a graph for each of a shared one, if both are made alike; None if they are not.

    An input of the shared graph stands for any tensor, but always for the same one.
    """
    tensors, pending = dict(known), [(own, other)]
    while pending:
        own, other = pending.pop()
        if own in tensors:
            if tensors[own] != other:
                return None
            continue
        tensors[own] = other
        if own in shared.constants:
            if shared.constants[own] != graph.constants.get(other):
                return None
        elif own in shared.inputs:
            if not graph.is_float(other):
                return None
        else:
            (node, place), (like, place_there) = shared.maker[own], graph.maker.get(other, (None, -1))
            if like is None or place != place_there or not _alike(node, like):
                return None
            pairs = list(zip(node.input, like.input, strict=True))
            if any(bool(mine) != bool(theirs) for mine, theirs in pairs):
                return None
            pending += [pair for pair in pairs if pair[0]]
    return tensors


def _alike(node: onnx.NodeProto, other: onnx.NodeProto) -> bool:
    """Return True if nodes have one operator, equal attributes, and as many inputs and outputs."""
    forms = [(each.op_type, each.domain, len(each.input), len(each.output)) for each in (node, other)]
    if forms[0] != forms[1]:
        return False
    mine, theirs = (sorted(a.SerializeToString() for a in each.attribute) for each in (node, other))
    return mine == theirs


def _given(occurrence: _Occurrence, graph: _Graph) -> dict[str, str]:
    """Return the tensors that a step can give: what it makes on the way to its last weights.

    What follows them is made anew, although the shared graph may give it too: ONNX Runtime fuses a few of
    these operators with others, and where it does so only in the whole, the last bits differ.
    """
    shared, tensors = occurrence.shared, occurrence.tensors
    last = [name for node in shared.weighted for name in node.output if name in tensors]
    made = sorted(shared.above(last) & shared.below(shared.large))
    return {tensors[name]: name for name in made if graph.is_float(tensors[name])}


def _steps(name: GraphName, graph: _Graph, occurrences: Sequence[_Occurrence], folder: Path) -> list[_Step]:
    """Return the steps of a graph, and write those that are graphs of their own."""
    steps: list[_Step] = []
    source: dict[str, tuple[_Step, str] | None] = dict.fromkeys(graph.inputs)
    """The tensors at hand, each with the step that gives it and its name there."""

    def take(tensors: Iterable[str]) -> dict[str, str]:
        """Have the steps give these tensors, which are at hand."""
        for tensor in tensors:
            if (found := source[tensor]) is not None:
                found[0].outputs[found[1]] = tensor
        return {tensor: tensor for tensor in tensors}

    def make(tensors: Iterable[str]) -> None:
        """Add a step that makes tensors, unless they are at hand."""
        if missing := [tensor for tensor in dict.fromkeys(tensors) if tensor not in source]:
            read = graph.above(missing, known=source) & source.keys()
            file = _write_part(graph, sorted(read), missing, folder / f"{name}.{len(steps)}.onnx")
            steps.append(step := _Step(file, take(sorted(read)), {each: each for each in missing}))
            source.update({tensor: (step, tensor) for tensor in missing})

    for each in occurrences:
        inputs = {own: each.tensors[own] for own in each.shared.inputs}
        make(inputs.values())
        take(inputs.values())
        steps.append(step := _Step(f"{each.name}.onnx", inputs, {}, each.name))
        source |= {tensor: (step, own) for tensor, own in each.given.items() if tensor not in source}
    make(graph.outputs)
    take(graph.outputs)
    return steps


def _write_part(graph: _Graph, inputs: Sequence[str], outputs: Sequence[str], path: Path) -> str:
    """Write the part of a graph that makes outputs of inputs; return the file's name."""
    tensors = graph.above(outputs, known=inputs)
    nodes = [node for node in graph.nodes if {*node.output} & tensors.difference(inputs)]
    part = copy.deepcopy(graph.model)
    for entries in (part.graph.node, part.graph.input, part.graph.output, part.graph.initializer):
        del entries[:]
    part.graph.node.extend(nodes)
    part.graph.input.extend(graph.types[name] for name in inputs)
    part.graph.output.extend(graph.types[name] for name in outputs)
    part.graph.initializer.extend(each for each in graph.model.graph.initializer if each.name in tensors)
    path.write_bytes(part.SerializeToString(deterministic=True))
    return path.name
