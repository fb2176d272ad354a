"""Networks of ONNX in half or double precision, brought to float32, in which all graphs are published."""

from __future__ import annotations

import copy
from typing import Final

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper
import onnx.reference
from onnxruntime.capi.onnxruntime_pybind11_state import NotImplemented as NoKernel

from service.numerics.noise import Floats
from training.export.own.networks import StrangeResult, reason_of
from training.export.sessions import open_session

_FLOAT: Final = onnx.TensorProto.FLOAT
_NAMES: Final = {onnx.TensorProto.FLOAT16: "float16", onnx.TensorProto.DOUBLE: "float64"}
TOLERANCES: Final = {"float16": 2e-2, "float64": 1e-4}
"""The largest allowed |float32 - original| / (1 + |original|) of outputs. In float16 most of it is the error
of the original, and 20 times that of one rounding."""
COMPARED_ROWS: Final = 8
_TYPE_ATTRIBUTES: Final = {"Cast": "to", "EyeLike": "dtype", "LayerNormalization": "stash_type"}
"""The attributes of operators that name a type."""


def precision_of(model: onnx.ModelProto) -> str:
    """Return `float16` or `float64` if a weight, an input or an output of a model is, else `float32`."""
    graph = model.graph
    kinds = {each.data_type for each in graph.initializer}
    kinds |= {each.type.tensor_type.elem_type for each in (*graph.input, *graph.output)}
    return next((name for kind, name in _NAMES.items() if kind in kinds), "float32")


def in_float32(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a model with float32 in place of float16 and float64: weights, constants, casts and borders."""
    made = copy.deepcopy(model)
    graph = made.graph
    for tensor in graph.initializer:
        _convert(tensor)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.TENSOR:
                _convert(attribute.t)
            elif attribute.name == _TYPE_ATTRIBUTES.get(node.op_type) and attribute.i in _NAMES:
                attribute.i = _FLOAT
    for value in (*graph.input, *graph.output):
        if value.type.tensor_type.elem_type in _NAMES:
            value.type.tensor_type.elem_type = _FLOAT
    return made


def _convert(tensor: onnx.TensorProto) -> None:
    if tensor.data_type not in _NAMES:
        return
    array = onnx.numpy_helper.to_array(tensor)
    most = np.finfo(np.float32).max  # in the place of the largest float64, which masks have
    finite = np.clip(array, -most, most) if array.dtype == np.float64 else array
    numbers = np.where(np.isinf(array), array, finite).astype(np.float32)
    tensor.CopyFrom(onnx.numpy_helper.from_array(numbers, tensor.name))


def with_float32_borders(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a model that computes as it is, and takes and gives float32 in place of float16 and float64."""
    made = copy.deepcopy(model)
    graph, node = made.graph, onnx.helper.make_node
    inside, first, last = dict[str, str](), [], []
    for value in (*graph.input, *graph.output):
        kind = value.type.tensor_type.elem_type
        if kind in _NAMES:
            inside[value.name] = f"{value.name}_as_stored"
            value.type.tensor_type.elem_type = _FLOAT
            if value.name in {each.name for each in graph.input}:
                first.append(node("Cast", [value.name], [inside[value.name]], to=kind))
            else:
                last.append(node("Cast", [inside[value.name]], [value.name], to=_FLOAT))
    for each in graph.node:
        each.input[:] = [inside.get(name, name) for name in each.input]
        each.output[:] = [inside.get(name, name) for name in each.output]
    nodes = [*first, *graph.node, *last]
    del graph.node[:]
    graph.node.extend(nodes)
    return made


def difference(precision: str, given: onnx.ModelProto, inputs: Floats, made: list[Floats]) -> float:
    """Compare outputs that a model `made` in float32 gave with those of the model as it was `given`.

    Returns:
        The largest difference, over 1 + |value|.

    Raises:
        StrangeResult: It is above the tolerance, or the given model does not run.
    """
    way_out = "export the network in float32 (module.float() before torch.onnx.export)"
    feeds = {given.graph.input[0].name: inputs}
    content = given.SerializeToString()
    try:
        try:
            outputs = open_session(content).run(None, feeds)
        except NoKernel:  # ONNX Runtime has no convolution in float64, among others
            outputs = list(onnx.reference.ReferenceEvaluator(given).run(None, feeds))
    except Exception as error:
        # a network of others may fail in any way
        raise StrangeResult(
            f"is in {precision}, and cannot be compared in float32, as it does not run: {reason_of(error)}; "
            f"{way_out}"
        ) from error
    pairs = zip(made, (np.asarray(each, np.float64) for each in outputs), strict=True)
    apart = max(float(np.max(np.abs(ours - theirs) / (1 + np.abs(theirs)))) for ours, theirs in pairs)
    if not apart <= TOLERANCES[precision]:
        raise StrangeResult(
            f"is in {precision}, and in float32 gives other results, by {apart:.1e} (1 + |value|); at most "
            f"{TOLERANCES[precision]:.0e} is allowed: {way_out}, and check what it gives"
        )
    return apart
