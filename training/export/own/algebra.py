"""The operations that formulas of likelihoods and priors are made of, on nodes of a graph or on numbers.

A formula is written once over an `Algebra`. `GraphAlgebra` makes ONNX nodes of it, in float32; `NumpyAlgebra`
evaluates it in float64, which the graph is compared with. Values of both have Python's operators; `width` is
the size of a tensor's last axis.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import partialmethod
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Tensor = Any
"""A value of an algebra: a `Node`, or an array of float64."""
Shape = Sequence[int | str]
IR_VERSION = 10
_LANES = 16
"""The largest number of float32 values in one vector instruction."""


def _of_two(operator: str) -> tuple[Callable[[Node, Any], Tensor], Callable[[Node, Any], Tensor]]:
    """Return the methods of a node for an operator of Python: of a node and another value, and reversed."""
    return (
        lambda node, other: node.graph.op(operator, node, other),
        lambda node, other: node.graph.op(operator, other, node),
    )


class Node:
    """A value in a graph that is being built, with Python's operators."""

    def __init__(self, graph: GraphAlgebra, name: str, double: bool = False) -> None:
        self.graph = graph
        self.name = name
        self.double = double
        """True for float64, which spreads to what is computed from it."""

    __add__, __radd__ = _of_two("Add")
    __sub__, __rsub__ = _of_two("Sub")
    __mul__, __rmul__ = _of_two("Mul")
    __truediv__, __rtruediv__ = _of_two("Div")

    def __neg__(self) -> Tensor:
        return self.graph.op("Neg", self)


class GraphAlgebra:
    """Builds one ONNX graph, node by node; other graphs can be embedded in it."""

    def __init__(self, opset: int) -> None:
        """Start an empty graph of the standard operators of that opset."""
        self._opset = opset
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[tuple[bytes, str, tuple[int, ...]], str] = {}
        self._initializers: list[onnx.TensorProto] = []
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []
        self._count = 0

    def input(self, name: str, shape: Shape) -> Node:
        """Add an input of the graph."""
        self._inputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape)))
        return Node(self, name)

    def output(self, name: str, value: Tensor, shape: Shape) -> None:
        """Make a value an output of the graph."""
        self._nodes.append(helper.make_node("Identity", [value.name], [name]))
        self._outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape)))

    def op(self, operator: str, *inputs: Any, **attributes: Any) -> Tensor:
        """Add a node with one output; inputs that are not nodes become constants, None is left out.

        If one of them is float64, so are all others but shapes and places, and the output.
        """
        double = any(isinstance(each, Node) and each.double for each in inputs)
        names = ["" if each is None else self._named(each, double) for each in inputs]
        output = self._fresh(operator.lower())
        self._nodes.append(helper.make_node(operator, names, [output], **attributes))
        return Node(self, output, double)

    exp, tanh, sqrt = partialmethod(op, "Exp"), partialmethod(op, "Tanh"), partialmethod(op, "Sqrt")
    abs, sigmoid, matmul = partialmethod(op, "Abs"), partialmethod(op, "Sigmoid"), partialmethod(op, "MatMul")

    def embed(self, model: onnx.ModelProto, *inputs: Tensor) -> list[Tensor]:
        """Add another model's nodes, applied to these inputs, and return its outputs."""
        prefix = self._fresh("part")
        names = {spec.name: value.name for spec, value in zip(model.graph.input, inputs, strict=True)}
        names[""] = ""
        for tensor in model.graph.initializer:
            copied = copy.deepcopy(tensor)
            names[tensor.name] = copied.name = f"{prefix}.{tensor.name}"
            self._initializers.append(copied)
        for node in model.graph.node:
            for output in node.output:
                names.setdefault(output, f"{prefix}.{output}")
            renamed = copy.deepcopy(node)
            renamed.name = ""
            renamed.input[:] = [names[name] for name in node.input]
            renamed.output[:] = [names[name] for name in node.output]
            self._nodes.append(renamed)
        return [Node(self, names[spec.name]) for spec in model.graph.output]

    def build(self, name: str) -> onnx.ModelProto:
        """Return the finished model."""
        graph = helper.make_graph(self._nodes, name, self._inputs, self._outputs, self._initializers)
        return helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", self._opset)], ir_version=IR_VERSION
        )

    def constant(self, value: Any) -> Tensor:
        """Return a constant of float32, or of int64 if it is made of whole numbers as an array."""
        array = np.asarray(value)
        array = array if array.dtype == np.int64 and array.ndim else array.astype(np.float32)
        key = (array.tobytes(), array.dtype.str, array.shape)
        if key not in self._constants:
            self._constants[key] = self._fresh("constant")
            self._initializers.append(numpy_helper.from_array(array, self._constants[key]))
        return Node(self, self._constants[key])

    def log(self, x: Tensor, width: int) -> Tensor:
        """Return the natural logarithm, computed in whole vectors, row by row.

        ONNX Runtime computes the rest of a tensor that does not fill a vector by other code, with other last
        digits, so an item's score would depend on its place in the batch.
        """
        missing = -width % _LANES
        if not missing:
            return self.op("Log", x)
        filled = self.op("Pad", x, np.array([0, missing]), None, np.array([-1]), mode="edge")
        return self.part(self.op("Log", filled), 0, width)

    def softplus(self, x: Tensor, width: int) -> Tensor:
        """Return log(1 + e^x), by the operations of `softplus` in `training.models.likelihoods`."""
        return self.op("Relu", x) - self.log(self.sigmoid(self.op("Abs", x)), width)

    def clip(self, x: Tensor, low: float | None, high: float | None) -> Tensor:
        """Move values below `low` or above `high` to these; None is no bound."""
        return self.op("Clip", x, *([low] if high is None else [low, high]))

    def where(self, less: tuple[Any, Any], then: Any, otherwise: Any) -> Tensor:
        """Return `then` where the first of `less` is below the second, else `otherwise`."""
        return self.op("Where", self.op("Less", *less), then, otherwise)

    def sum(self, x: Tensor, width: int) -> Tensor:
        """Sum over the last axis, as a product with ones: ReduceSum's order depends on a row's place."""
        return self.op("MatMul", x, np.ones(width, np.float32))

    def largest(self, x: Tensor) -> Tensor:
        """Return the largest value over the last axis, which stays with size 1."""
        return self.op("ReduceMax", x, np.array([-1]), keepdims=1)

    def doubled(self, x: Any) -> Tensor:
        """Convert to float64, which no constant of a graph may have."""
        return self._cast(x, TensorProto.DOUBLE)

    def singled(self, x: Tensor) -> Tensor:
        """Convert back to float32."""
        return self._cast(x, TensorProto.FLOAT)

    def reshape(self, x: Tensor, shape: Sequence[int]) -> Tensor:
        """Give another shape, in which -1 stands for the remaining size."""
        return self.op("Reshape", x, np.array(shape, np.int64))

    def transpose(self, x: Tensor, axes: Sequence[int]) -> Tensor:
        """Permute the axes."""
        return self.op("Transpose", x, perm=list(axes))

    def insert_axis(self, x: Tensor, axis: int) -> Tensor:
        """Insert an axis of size 1."""
        return self.op("Unsqueeze", x, np.array([axis]))

    def concat(self, tensors: Sequence[Any]) -> Tensor:
        """Concatenate along the last axis."""
        return self.op("Concat", *tensors, axis=-1)

    def part(self, x: Tensor, start: int, end: int) -> Tensor:
        """Return a slice of the last axis."""
        return self.op("Slice", x, np.array([start]), np.array([end]), np.array([-1]))

    def per_draw(self, x: Tensor, eps: Tensor, width: int) -> Tensor:
        """Give rows (B K, width) the shape (B, K, width) of draws eps (B, K, D)."""
        shape = self.op("Concat", self.op("Shape", eps, end=2), np.array([width]), axis=0)
        return self.op("Reshape", x, shape)

    def mean_of_draws(self, x: Tensor) -> Tensor:
        """Return the mean over the last axis, whose size is free."""
        count = self.op("Shape", x, start=1)
        total = self.op("MatMul", x, self.op("Expand", 1.0, count))
        return total / self._cast(count, TensorProto.FLOAT)

    def _named(self, value: Any, double: bool) -> str:
        node = value if isinstance(value, Node) else self.constant(value)
        places = isinstance(value, np.ndarray) and value.dtype == np.int64
        return self.doubled(node).name if double and not node.double and not places else node.name

    def _cast(self, x: Any, kind: int) -> Node:
        node = x if isinstance(x, Node) else self.constant(x)
        output = self._fresh("cast")
        self._nodes.append(helper.make_node("Cast", [node.name], [output], to=kind))
        return Node(self, output, kind == TensorProto.DOUBLE)

    def _fresh(self, what: str) -> str:
        self._count += 1
        return f"{what}_{self._count}"


class NumpyAlgebra:
    """Evaluates formulas with numpy in float64."""

    exp, tanh, sqrt, abs, matmul = np.exp, np.tanh, np.sqrt, np.abs, np.matmul
    transpose, insert_axis = staticmethod(np.transpose), staticmethod(np.expand_dims)

    def constant(self, value: Any) -> Tensor:
        """Return an array of float64, rounded to float32 as in a graph."""
        return np.asarray(value, np.float32).astype(np.float64)

    def log(self, x: Tensor, width: int) -> Tensor:  # noqa: ARG002
        """Return the natural logarithm."""
        return np.log(x)

    def softplus(self, x: Tensor, width: int) -> Tensor:  # noqa: ARG002
        """Return log(1 + e^x)."""
        return np.logaddexp(0, x)

    def sigmoid(self, x: Tensor) -> Tensor:
        """Return 1 / (1 + e^-x)."""
        return np.exp(-np.logaddexp(0, -x))

    def clip(self, x: Tensor, low: float | None, high: float | None) -> Tensor:
        """Move values below `low` or above `high` to these; None is no bound."""
        return np.clip(x, low, high)

    def where(self, less: tuple[Tensor, Tensor], then: Tensor, otherwise: Tensor) -> Tensor:
        """Return `then` where the first of `less` is below the second, else `otherwise`."""
        return np.where(less[0] < less[1], then, otherwise)

    def sum(self, x: Tensor, width: int) -> Tensor:  # noqa: ARG002
        """Sum over the last axis."""
        return x.sum(-1)

    def largest(self, x: Tensor) -> Tensor:
        """Return the largest value over the last axis, which stays with size 1."""
        return x.max(-1, keepdims=True)

    def doubled(self, x: Tensor) -> Tensor:
        """Convert to float64."""
        return np.asarray(x, np.float64)

    def singled(self, x: Tensor) -> Tensor:
        """Return the value itself: all is float64."""
        return x

    def reshape(self, x: Tensor, shape: Sequence[int]) -> Tensor:
        """Give another shape, in which -1 stands for the remaining size."""
        return x.reshape(shape)

    def concat(self, tensors: Sequence[Tensor]) -> Tensor:
        """Concatenate along the last axis."""
        return np.concatenate(tensors, -1)

    def part(self, x: Tensor, start: int, end: int) -> Tensor:
        """Return a slice of the last axis."""
        return x[..., start:end]

    def per_draw(self, x: Tensor, eps: Tensor, width: int) -> Tensor:
        """Give rows (B K, width) the shape (B, K, width) of draws eps (B, K, D)."""
        return x.reshape(*eps.shape[:2], width)

    def mean_of_draws(self, x: Tensor) -> Tensor:
        """Return the mean over the last axis, whose size is free."""
        return x.mean(-1)


Algebra = GraphAlgebra | NumpyAlgebra
