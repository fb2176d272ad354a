"""A network of ONNX that takes values and a class, as one of rows of both: values and, one-hot, the class.

Shapes: B rows, n values of a row, C classes.
"""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import onnx
from onnx.helper import make_node, make_tensor_value_info
from onnx.numpy_helper import from_array

from training.export.own.networks import LabelForm

WHOLE_NUMBERS = frozenset({onnx.TensorProto.INT32, onnx.TensorProto.INT64})
"""The types of an input that can only be the class."""


def packed_model(
    model: onnx.ModelProto, shape: tuple[int, ...], classes: int, labels: LabelForm
) -> onnx.ModelProto:
    """Return a model of values, rows of that shape, and a class in that form as one of rows (B, n + C)."""
    packed = copy.deepcopy(model)
    graph, size = packed.graph, math.prod(shape)
    values, *label = _values_first([*graph.input], classes, labels)
    arrays: dict[str, Any] = {
        "packed_start": np.array([0]), "packed_middle": np.array([size]), "packed_axis": np.array([1]),
        "packed_end": np.array([size + classes]), "packed_shape": np.array([-1, *shape]),
    }  # fmt: skip
    nodes = [
        make_node(
            "Slice", ["packed_rows", "packed_start", "packed_middle", "packed_axis"], ["packed_values"]
        ),
        make_node("Reshape", ["packed_values", "packed_shape"], [values.name]),
    ]
    if labels != "none":
        given = ["packed_rows", "packed_middle", "packed_end", "packed_axis"]
        nodes.append(make_node("Slice", given, ["packed_one_hot"]))
        last = "packed_one_hot"
        if labels != "one_hot":
            row = _row(label[0])
            of_column = labels == "column" if row is None else len(row) == 1
            arrays |= {
                "packed_numbers": np.arange(classes, dtype=np.float32),
                "packed_lowest": np.float32(0),
                "packed_highest": np.float32(classes - 1),
                "packed_form": np.array([-1, 1] if of_column else [-1]),
            }
            nodes += [
                make_node("MatMul", [last, "packed_numbers"], ["packed_number"]),
                make_node("Round", ["packed_number"], ["packed_whole"]),
                make_node("Clip", ["packed_whole", "packed_lowest", "packed_highest"], ["packed_index"]),
                make_node("Reshape", ["packed_index", "packed_form"], ["packed_class"]),
            ]
            last = "packed_class"
        nodes.append(make_node("Cast", [last], [label[0].name], to=label[0].type.tensor_type.elem_type))
    rest = [*graph.node]
    del graph.node[:], graph.input[:]
    graph.node.extend([*nodes, *rest])
    graph.initializer.extend(from_array(np.asarray(array), name) for name, array in arrays.items())
    graph.input.append(
        make_tensor_value_info("packed_rows", onnx.TensorProto.FLOAT, ["rows", size + classes])
    )
    return packed


def _values_first(
    inputs: list[onnx.ValueInfoProto], classes: int, labels: LabelForm
) -> list[onnx.ValueInfoProto]:
    """Return the inputs in order, or turned round if only the first can be the class."""

    def may_be_class(given: onnx.ValueInfoProto) -> bool:
        if given.type.tensor_type.elem_type in WHOLE_NUMBERS:
            return True
        return _row(given) in (((classes,), None) if labels == "one_hot" else ((), (1,), None))

    may = [may_be_class(each) for each in inputs]
    return inputs[::-1] if may == [True, False] else inputs


def _row(given: onnx.ValueInfoProto) -> tuple[int, ...] | None:
    """Return the declared shape of a row of an input, 0 where it is free; None if none is declared."""
    if not given.type.tensor_type.HasField("shape"):
        return None
    return tuple(axis.dim_value for axis in given.type.tensor_type.shape.dim[1:])
