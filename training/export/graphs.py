"""ONNX graphs: their export, and the rules that they must keep.

Shapes: B rows (free, the axis "rows"), K draws (free, "draws"), D latent dimensions; items (B, *item).
Noise is always an input, so that a seed gives the same result wherever a graph runs.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import onnx
import torch
from torch import Tensor, nn

from service.format.manifest import GraphName, TensorSpec
from training.models.gan import Gan
from training.models.vae import Vae

OPSET = 18
# fmt: off
ALLOWED_OPERATORS = frozenset({
    "Abs", "Add", "Cast", "Clip", "Concat", "Constant", "Conv", "ConvTranspose", "Cos", "Div", "Exp",
    "Expand", "Flatten", "Gemm", "Greater", "GreaterOrEqual", "Identity", "LeakyRelu", "Less", "Log",
    "MatMul", "Max", "Min", "Mul", "Neg", "Pow", "Reciprocal", "ReduceMax", "Relu", "Reshape", "Round",
    "Shape", "Sigmoid", "Sign", "Sin", "Slice", "Softplus", "Sqrt", "Squeeze", "Sub", "Tanh", "Transpose",
    "Unsqueeze", "Where",
})
# fmt: on
"""Operators a graph may use: deterministic, without control flow, each acting on every row by itself.

ReduceSum is left out: ONNX Runtime adds in another order if a row is not aligned in memory.
"""

_ROWS = torch.export.Dim("rows", min=1)
_DRAWS = torch.export.Dim("draws", min=1)


class GraphError(RuntimeError):
    """A graph breaks one of the rules; the message names the graph and the rule."""


class GraphModule(nn.Module):
    """A function of a model, as a module that the exporter can trace."""

    def __init__(self, model: Vae | Gan, function: Callable[..., Tensor | tuple[Tensor, ...]]) -> None:
        super().__init__()
        self.model = model
        self._function = function

    def forward(self, *tensors: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Apply the function."""
        return self._function(*tensors)


@dataclass(frozen=True)
class Graph:
    """One operation of a model as a function of tensors."""

    name: GraphName
    module: GraphModule
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    judge: Callable[[Tensor], Tensor] | None = None
    """Maps the first output to the second; None if the second has another origin."""


def example_inputs(graph: Graph, rows: int, draws: int, seed: int = 0) -> tuple[Tensor, ...]:
    """Draw random inputs of the graph's shapes: items and uniforms in (0, 1), all others standard normal."""
    generator = torch.Generator().manual_seed(seed)
    tensors = []
    for spec in graph.inputs:
        shape = tuple({"rows": rows, "draws": draws}.get(str(axis), axis) for axis in spec.shape)
        sizes = cast(tuple[int, ...], shape)
        if spec.name in ("inputs", "uniforms"):
            tensors.append(torch.rand(sizes, generator=generator).clamp(1e-6, 1 - 1e-6))
        else:
            tensors.append(torch.randn(sizes, generator=generator))
    return tuple(tensors)


def export_graph(graph: Graph, path: Path) -> None:
    """Export a graph to `path` as ONNX and check it.

    Raises:
        GraphError: The exported graph breaks a rule.
    """
    axes = {"rows": _ROWS, "draws": _DRAWS}
    shapes = tuple(
        {index: axes[axis] for index, axis in enumerate(spec.shape) if isinstance(axis, str)}
        for spec in graph.inputs
    )
    # Sizes 3 and 5, since the exporter takes a size of 1 for a constant and equal sizes for one axis.
    with _quiet():
        program = torch.onnx.export(
            graph.module.eval(),
            example_inputs(graph, 3, 5),
            dynamo=True,
            dynamic_shapes=(shapes,),
            input_names=[spec.name for spec in graph.inputs],
            output_names=[spec.name for spec in graph.outputs],
            opset_version=OPSET,
            external_data=False,
            verbose=False,
        )
    assert program is not None
    model = _plain(program.model_proto)
    check_graph(graph.name, model)
    path.write_bytes(model.SerializeToString())


def check_graph(name: str, model: onnx.ModelProto) -> None:
    """Check that a graph is self-contained, deterministic, free of control flow, and valid.

    Raises:
        GraphError: The graph breaks a rule.
    """
    if model.functions:
        raise GraphError(f"graph {name} has local functions: {sorted(f.name for f in model.functions)}")
    opsets = {opset.domain: opset.version for opset in model.opset_import}
    if set(opsets) - {"", "ai.onnx"} or max(opsets.values()) < OPSET:
        raise GraphError(
            f"graph {name} imports {opsets}; only the standard operators, opset {OPSET} or newer, fit"
        )
    for node in model.graph.node:
        if node.op_type not in ALLOWED_OPERATORS:
            raise GraphError(
                f"graph {name} uses {node.op_type}, which is not in the list of allowed operators"
            )
    for tensor in model.graph.initializer:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            raise GraphError(f"graph {name} keeps {tensor.name} outside its file")
        if tensor.data_type not in (onnx.TensorProto.FLOAT, onnx.TensorProto.INT64):
            kind = onnx.TensorProto.DataType.Name(tensor.data_type)
            raise GraphError(
                f"graph {name} holds {tensor.name} as {kind}; only FLOAT, and INT64 for shapes, fit"
            )
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise GraphError(f"graph {name} is not valid ONNX: {error}") from error


def _plain(model: onnx.ModelProto) -> onnx.ModelProto:
    """Remove the exporter's notes, which hold paths of the machine that trained."""
    plain = onnx.ModelProto()
    plain.CopyFrom(model)
    plain.doc_string = ""
    del plain.metadata_props[:]
    graph = plain.graph
    graph.doc_string = ""
    for entry in (graph, *graph.node, *graph.initializer, *graph.input, *graph.output, *graph.value_info):
        entry.doc_string = ""
        del entry.metadata_props[:]
    # Any reader infers the shapes again; names of inner values stay.
    del graph.value_info[:]
    return plain


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Suppress the exporter's progress lines and the deprecation warnings of its libraries."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            logger.setLevel(level)
