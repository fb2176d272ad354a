"""The rules that every published ONNX graph keeps; they need no torch."""

from __future__ import annotations

import copy

import onnx

OPSET = 18
# fmt: off
ALLOWED_OPERATORS = frozenset({
    "Abs", "Acos", "Acosh", "Add", "And", "ArgMax", "ArgMin", "Asin", "Asinh", "Atan", "Atanh",
    "AveragePool", "BatchNormalization", "Cast", "CastLike", "Ceil", "Celu", "Clip", "Concat", "Constant",
    "ConstantOfShape", "Conv", "ConvTranspose", "Cos", "Cosh", "CumSum", "DepthToSpace", "Div", "Einsum",
    "Elu", "Equal", "Erf", "Exp", "Expand", "EyeLike", "Flatten", "Floor", "GRU", "Gather",
    "GatherElements", "GatherND", "Gelu", "Gemm", "GlobalAveragePool", "GlobalMaxPool", "Greater",
    "GreaterOrEqual", "GridSample", "GroupNormalization", "HardSigmoid", "HardSwish", "Identity",
    "InstanceNormalization", "IsInf", "IsNaN", "LRN", "LSTM", "LayerNormalization", "LeakyRelu", "Less",
    "LessOrEqual", "Log", "LogSoftmax", "LpNormalization", "MatMul", "Max", "MaxPool", "Mean", "Min",
    "Mish", "Mod", "Mul", "Neg", "Not", "OneHot", "Or", "PRelu", "Pad", "Pow", "RNN", "Range", "Reciprocal",
    "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin",
    "ReduceProd", "ReduceSum", "ReduceSumSquare", "Relu", "Reshape", "Resize", "Round", "ScatterElements",
    "ScatterND", "Selu", "Shape", "Shrink", "Sigmoid", "Sign", "Sin", "Sinh", "Size", "Slice", "Softmax",
    "Softplus", "Softsign", "SpaceToDepth", "Split", "Sqrt", "Squeeze", "Sub", "Sum", "Tan", "Tanh",
    "ThresholdedRelu", "Tile", "TopK", "Transpose", "Trilu", "Unsqueeze", "Where", "Xor",
})
# fmt: on
"""Operators a graph may use: deterministic, without control flow, and of use on every row by itself.

Some (ReduceSum, Softmax) add in another order if a row is not aligned in memory, so that its last digits
depend on its place in the batch. That is measured at publishing; graphs of recipes do not use them.
"""
_CONTROL_FLOW = frozenset({"If", "Loop", "Scan", "SequenceMap"})
_INITIALIZERS = (
    onnx.TensorProto.FLOAT,
    onnx.TensorProto.INT64,
    onnx.TensorProto.INT32,
    onnx.TensorProto.BOOL,
)


def is_random(operator: str) -> bool:
    """Return True for an operator that draws, also for one of TensorFlow that its exporter left as it was."""
    return "Random" in operator or operator in ("Bernoulli", "Dropout", "Multinomial")


def operator_flaws(model: onnx.ModelProto) -> list[str]:
    """Return what is wrong with the operators of a model, a sentence each, with what to do about it."""
    used = {(node.domain, node.op_type) for node in model.graph.node}
    flaws = []
    for domain, operator in sorted(used):
        if domain not in ("", "ai.onnx"):
            flaws.append(f"uses {operator} of {domain}; only the standard operators of ONNX fit")
        elif operator not in ALLOWED_OPERATORS:
            way_out = ""
            if is_random(operator):
                way_out = (
                    ": it is random, and noise is always an input here; export the part without noise, in "
                    "evaluation mode (an encoder's mean and log-variance rather than a draw)"
                )
            elif operator in _CONTROL_FLOW:
                way_out = ": it is control flow; export the model without branches and loops"
            elif operator in ("NonZero", "Compress", "Unique"):
                way_out = (
                    ": the size of its result depends on values; choose by torch.where instead of assigning "
                    "to x[mask]"
                )
            flaws.append(f"uses {operator}, which is not in the list of allowed operators{way_out}")
    training = [
        node.op_type
        for node in model.graph.node
        if node.op_type == "BatchNormalization"
        and any(attribute.name == "training_mode" and attribute.i for attribute in node.attribute)
    ]
    if training:
        flaws.append("has a BatchNormalization in training mode; call .eval() before the export")
    return flaws


class GraphError(RuntimeError):
    """A graph breaks one of the rules; the message names the graph and the rule."""


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
    if flaws := operator_flaws(model):
        raise GraphError(f"graph {name} {flaws[0]}")
    for tensor in model.graph.initializer:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            raise GraphError(f"graph {name} keeps {tensor.name} outside its file")
        if tensor.data_type not in _INITIALIZERS:
            kind, *fitting = map(onnx.TensorProto.DataType.Name, (tensor.data_type, *_INITIALIZERS))
            raise GraphError(f"graph {name} holds {tensor.name} as {kind}; only {', '.join(fitting)} fit")
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise GraphError(f"graph {name} is not valid ONNX: {error}") from error


def plain(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a model without its exporter's notes, which hold paths of the machine that trained."""
    plain = copy.deepcopy(model)
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
