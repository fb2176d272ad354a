"""A network that came as an ONNX file."""

from __future__ import annotations

import contextlib
import copy
import graphlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import onnx
import onnx.helper
import onnx.inliner
import onnx.numpy_helper
import onnx.version_converter
import onnxruntime

from service.numerics.noise import Floats
from training.export.own.files import strange_file
from training.export.own.networks import LabelForm, UnfitModel
from training.export.own.onnx_classes import WHOLE_NUMBERS, packed_model
from training.export.own.outputs import mean_and_spread
from training.export.own.precision import (
    COMPARED_ROWS,
    difference,
    in_float32,
    precision_of,
    with_float32_borders,
)
from training.export.rules import OPSET, is_random, operator_flaws, plain
from training.export.sessions import open_session

_LEAST_OPSET = 7
"""The oldest opset that the version converter of ONNX brings to a newer one."""


class OnnxSource:
    """A network in an .onnx file: one input with a free first axis, and its outputs, all floats.

    One in float16 or float64 is brought to float32, and compared with itself as it was when it is first run.
    """

    def __init__(self, what: str, path: Path) -> None:
        """Read the file.

        Raises:
            UnfitModel: It cannot be read as ONNX.
        """
        self.what = what
        self.origin: dict[str, object] = {"file": path.name}
        if strange := strange_file(path):
            raise UnfitModel(what, [f"{path} {strange}"])
        try:
            loaded = onnx.load(path)
        except Exception as error:
            # protobuf's errors have no common base class
            raise UnfitModel(what, [f"{path} cannot be read as ONNX: {error}"]) from error
        if not loaded.graph.node:
            raise UnfitModel(what, [f"{path} cannot be read as ONNX: it has no operators"])
        producer = f"{loaded.producer_name} {loaded.producer_version}".strip()
        self.origin |= {"producer": producer} if producer else {}
        self._model = simplified(loaded)
        names = tuple(each.name for each in self._model.graph.output)
        places = mean_and_spread(names)
        kept = [names[place] for place in places] if places else _without_draws(self._model)
        if kept not in ([], [*names]):
            self._model, self.origin["outputs"] = _with_outputs(self._model, kept), kept
        self._precision = precision_of(self._model)
        self._given: onnx.ModelProto | None = None
        """The network in another precision, until it is compared."""
        if self._precision != "float32":
            self._given, self._model = with_float32_borders(self._model), in_float32(self._model)
        self.before: OnnxSource | None = None
        """The network as it came, if this one is made of it."""

    @property
    def takes_class(self) -> bool:
        """Return True if it has more inputs than one."""
        return len(self._model.graph.input) > 1

    def conditioned(self, shape: tuple[int, ...], classes: int, labels: LabelForm) -> OnnxSource:
        """Return it as a network of one input, rows of values and the class after them, one-hot."""
        source = copy.copy(self)
        source.before = self

        def packed(model: onnx.ModelProto) -> onnx.ModelProto:
            newer = with_opset(self.what, model, max(OPSET, opset_of(model)))
            return packed_model(newer, shape, classes, labels)

        source._model = packed(self._model)
        source._given = None if self._given is None else packed(self._given)
        return source

    def flaws(self) -> list[str]:
        """Return what is wrong with the graph, a sentence each."""
        return self._flaws() if self.before is None else self.before._flaws(of_class=self.before.takes_class)

    def _flaws(self, *, of_class: bool = False) -> list[str]:
        graph, opset = self._model.graph, opset_of(self._model)
        flaws = operator_flaws(self._newer)
        if opset < _LEAST_OPSET:
            flaws.append(f"is of opset {opset}; export it again with opset {OPSET} or newer")
        if onnx.TensorProto.BFLOAT16 in {each.data_type for each in graph.initializer}:
            flaws.append(
                "has weights of BFLOAT16; wanted float32, float16 or float64: export it in float32 "
                "(module.float() before torch.onnx.export)"
            )
        names = [each.name for each in graph.input]
        if of_class and len(names) != 2:
            flaws.append(f"takes {names}; wanted two inputs, values and the class of each row")
        elif len(names) != 1 and not of_class:
            of_two = "; if one is the class of each row, name the classes by `classes`"
            flaws.append(f"takes {names}; wanted one input, a batch of rows{of_two * (len(names) == 2)}")
        for tensor in (*graph.input, *graph.output):
            kind = tensor.type.tensor_type.elem_type
            if kind != onnx.TensorProto.FLOAT and not (of_class and kind in WHOLE_NUMBERS):
                name = onnx.TensorProto.DataType.Name(kind)
                flaws.append(f"has {tensor.name} of type {name}; wanted FLOAT, 32 bits: export it in float32")
        for tensor in graph.input:
            axes = tensor.type.tensor_type.shape.dim
            if axes and axes[0].HasField("dim_value"):
                flaws.append(
                    f"takes batches of exactly {axes[0].dim_value} rows: its first axis is fixed; export it "
                    "again with a free batch axis (torch.onnx.export(..., dynamic_shapes=({0: 'rows'},)))"
                )
        return [f"{self.what} {flaw}" for flaw in flaws]

    @property
    def _newer(self) -> onnx.ModelProto:
        """Return the model as it will be published, if it can be brought to that opset."""
        try:
            return with_opset(self.what, self._model, max(OPSET, opset_of(self._model)))
        except UnfitModel:
            return self._model

    def shapes(self, expected: Sequence[tuple[int, ...]]) -> Sequence[tuple[int, ...]]:
        """Return those of the expected shapes of a row that the graph's input allows."""
        if not self._model.graph.input[0].type.tensor_type.HasField("shape"):
            return expected
        axes = self._model.graph.input[0].type.tensor_type.shape.dim[1:]
        sizes = [axis.dim_value if axis.HasField("dim_value") else None for axis in axes]
        return [
            shape
            for shape in expected
            if len(shape) == len(sizes)
            and all(size in (None, wanted) for size, wanted in zip(sizes, shape, strict=True))
        ]

    @property
    def declared(self) -> list[object]:
        """Return the shape that the graph declares for a row of its input."""
        axes = self._model.graph.input[0].type.tensor_type.shape.dim[1:]
        return [axis.dim_value if axis.HasField("dim_value") else axis.dim_param or "?" for axis in axes]

    def run(self, inputs: Floats) -> list[Floats]:
        """Compute its outputs for inputs (B, ...).

        Raises:
            StrangeResult: In float32 it gives other results than in its own precision.
        """
        name = self._model.graph.input[0].name
        outputs = [np.asarray(each) for each in self._session.run(None, {name: inputs})]
        if self._given is not None:
            some = inputs[:COMPARED_ROWS]
            made = [np.asarray(each) for each in self._session.run(None, {name: some})]
            apart = difference(self._precision, self._given, some, made)
            self._given = None
            self.origin["precision"] = (
                f"{self._precision}, brought to float32: outputs differ by at most {apart:.1e} (1 + |value|) "
                f"on {len(some)} rows"
            )
        return outputs

    def export(self, shape: tuple[int, ...]) -> onnx.ModelProto:  # noqa: ARG002
        """Return the graph."""
        return self._model

    @cached_property
    def _session(self) -> onnxruntime.InferenceSession:
        return open_session(self._model.SerializeToString())


def _without_draws(model: onnx.ModelProto) -> list[str]:
    """Return the outputs that are no draws; encoders of Keras's tutorials have one beside the posterior."""
    drawn: set[str] = set()
    for node in model.graph.node:
        if is_random(node.op_type) or drawn & {*node.input}:
            drawn |= {*node.output}
    return [each.name for each in model.graph.output if each.name not in drawn]


def _with_outputs(model: onnx.ModelProto, names: Sequence[str]) -> onnx.ModelProto:
    """Return a model that gives those of its outputs alone, in that order, without what they do not need."""
    kept = copy.deepcopy(model)
    graph, needed = kept.graph, {*names}
    nodes: list[onnx.NodeProto] = []
    for node in reversed(model.graph.node):
        if needed & {*node.output}:
            needed |= {*node.input}
            nodes.insert(0, node)
    outputs = {each.name: each for each in model.graph.output}
    del graph.node[:], graph.output[:], graph.input[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.output.extend(outputs[name] for name in names)
    graph.input.extend(each for each in model.graph.input if each.name in needed)
    graph.initializer.extend(each for each in model.graph.initializer if each.name in needed)
    return kept


def opset_of(model: onnx.ModelProto) -> int:
    """Return the version of the standard operators that a model imports."""
    return max((each.version for each in model.opset_import if each.domain in ("", "ai.onnx")), default=0)


def with_opset(what: str, model: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    """Return a model brought to a newer opset.

    Raises:
        UnfitModel: One of its operators cannot be brought to it.
    """
    if opset_of(model) == opset:
        return model
    try:
        return plain(onnx.version_converter.convert_version(model, opset))
    except (RuntimeError, ValueError) as error:
        came = f"{what} is of opset {opset_of(model)}"
        raise UnfitModel(
            what, [f"{came} and cannot be brought to {opset} ({error}); export it again"]
        ) from error


_SHAPING = ("Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze")


def without_sigmoid(model: onnx.ModelProto) -> tuple[onnx.ModelProto, bool]:
    """Return a model without the sigmoid that ends its only output, and True; or itself and False."""
    changed = copy.deepcopy(model)
    graph = changed.graph
    makers = {name: node for node in graph.node for name in node.output}
    name = graph.output[0].name
    while name in makers and makers[name].op_type in _SHAPING:
        name = makers[name].input[0]
    last = makers.get(name)
    users = [node for node in graph.node if name in node.input]
    if len(graph.output) > 1 or last is None or last.op_type != "Sigmoid" or len(users) > 1:
        return model, False
    last.op_type = "Identity"
    return changed, True


def simplified(model: onnx.ModelProto) -> onnx.ModelProto:
    """Inline local functions; drop weights from the inputs, Dropout, and axes of -1, which are free.

    Nodes come in the order in which they are computed, which converters of precision do not keep.
    """
    inlined = onnx.inliner.inline_local_functions(model) if model.functions else model
    simple = plain(inlined)
    graph = simple.graph
    weights = {tensor.name for tensor in graph.initializer}
    inputs = [each for each in graph.input if each.name not in weights]
    del graph.input[:]
    graph.input.extend(inputs)
    for axis in (axis for each in (*graph.input, *graph.output) for axis in each.type.tensor_type.shape.dim):
        if axis.HasField("dim_value") and axis.dim_value < 1:  # some exporters' word for a free one
            axis.Clear()
    for node in graph.node:
        given, made = len(node.input), [name for name in node.output if name]
        if node.op_type == "Dropout" and given < 3 and len(made) == 1:
            node.op_type = "Identity"
            del node.input[1:], node.output[1:], node.attribute[:]
    nodes = [*graph.node]
    with contextlib.suppress(graphlib.CycleError):  # the checker will tell of it
        if (ordered := _in_order(nodes)) is not nodes:
            del graph.node[:]
            graph.node.extend(ordered)
    return simple


def _in_order(nodes: list[onnx.NodeProto]) -> list[onnx.NodeProto]:
    """Return nodes in the order in which they can be computed: as they came, if that is one."""
    makers = {name: place for place, node in enumerate(nodes) for name in node.output if name}
    needed = [{makers[name] for name in node.input if name in makers} for node in nodes]
    if all(max(before, default=-1) < place for place, before in enumerate(needed)):
        return nodes
    return [nodes[place] for place in graphlib.TopologicalSorter(dict(enumerate(needed))).static_order()]
