"""Operators that networks of others have: allowed in graphs, and equal to torch's in ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from training.export.rules import ALLOWED_OPERATORS, check_graph
from training.export.sessions import open_session

IMAGES = torch.randn(3, 4, 6, 6, generator=torch.Generator().manual_seed(0))
WEIGHTS = {
    name: torch.rand(4, generator=torch.Generator().manual_seed(seed)) + 0.5
    for seed, name in enumerate(("scale", "bias", "mean", "variance"))
}
KERNEL = torch.randn(4, 2, 3, 3, generator=torch.Generator().manual_seed(9))
LENGTHS = {"twice": np.array([1, 1, 2, 2], np.float32), "none": np.array([], np.float32)}
AXES = {"last": np.array([-1]), "places": np.array([1, 1]), "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1])}
CONSTANTS = {
    **{name: tensor.numpy() for name, tensor in WEIGHTS.items()}, **LENGTHS, **AXES,
    "kernel": KERNEL.numpy(), "wide": np.ones(6, np.float32), "index": np.array([2, 0]),
    "slope": np.full((4, 1, 1), 0.3, np.float32), "shape": np.array([0, 4, 36]), "halves": np.array([2, 2]),
    "repeats": np.array([1, 1, 2, 1]), "reps": np.array([1, 4, 1, 1]),
}  # fmt: skip
RECIPES = """
Abs Add Cast Clip Concat Constant Conv ConvTranspose Cos Div Exp Expand Flatten Gemm Greater GreaterOrEqual
Identity LeakyRelu Less Log MatMul Max Min Mul Neg Pow Reciprocal ReduceMax Relu Reshape Round Shape Sigmoid
Sign Sin Slice Sqrt Squeeze Sub Tanh Transpose Unsqueeze Where
"""
"""The operators of the graphs of recipes, whose parity with torch their own tests measure."""
GRID = torch.rand(3, 2, 5, 2, generator=torch.Generator().manual_seed(8)) * 2 - 1
CONSTANTS |= {
    "grid": GRID.numpy(), "columns": np.tile([3, 1], (3, 4, 6, 1)), "places_of": np.tile([1, 2], (3, 1)),
    "halves_of": np.full((3, 4, 6, 2), 0.5, "f4"), "rows_of": np.array([[0]]),
    "row_of": np.ones((1, 4, 6, 6), "f4"),
}  # fmt: skip
FIRST = {"square": ("Mul", ["x", "x"]), "share": ("Sigmoid", ["x"]), "large": ("Max", ["x", "wide"])}
"""Nodes whose result the operators of some cases take."""
Case = tuple[str, list[str], dict[str, Any], Callable[[Tensor], Tensor]]


def attention(x: Tensor) -> Tensor:
    return torch.softmax(x @ x.transpose(-1, -2), -1) @ x


CASES: list[Case] = [
    ("BatchNormalization", ["x", "scale", "bias", "mean", "variance"], {},
     lambda x: F.batch_norm(x, WEIGHTS["mean"], WEIGHTS["variance"], WEIGHTS["scale"], WEIGHTS["bias"])),
    ("InstanceNormalization", ["x", "scale", "bias"], {},
     lambda x: F.instance_norm(x, weight=WEIGHTS["scale"], bias=WEIGHTS["bias"])),
    ("LayerNormalization", ["x", "wide"], {}, lambda x: F.layer_norm(x, (6,))),
    ("LpNormalization", ["x"], {"axis": -1, "p": 2}, lambda x: F.normalize(x, dim=-1)),
    ("Softmax", ["x"], {"axis": 1}, lambda x: torch.softmax(x, 1)),
    ("LogSoftmax", ["x"], {"axis": -1}, lambda x: torch.log_softmax(x, -1)),
    ("Erf", ["x"], {}, torch.erf),
    ("HardSigmoid", ["x"], {"alpha": 1 / 6, "beta": 0.5}, F.hardsigmoid),
    ("HardSwish", ["x"], {}, F.hardswish),
    ("Elu", ["x"], {}, F.elu),
    ("Softplus", ["x"], {}, F.softplus),
    ("Celu", ["x"], {}, F.celu),
    ("Selu", ["x"], {}, F.selu),
    ("Mish", ["x"], {}, F.mish),
    ("Softsign", ["x"], {}, F.softsign),
    ("PRelu", ["x", "slope"], {}, lambda x: torch.where(x > 0, x, 0.3 * x)),
    ("ThresholdedRelu", ["x"], {"alpha": 0.5}, lambda x: F.threshold(x, 0.5, 0)),
    ("DepthToSpace", ["x"], {"blocksize": 2, "mode": "CRD"}, lambda x: F.pixel_shuffle(x, 2)),
    ("SpaceToDepth", ["x"], {"blocksize": 2},
     lambda x: F.pixel_unshuffle(x, 2).reshape(3, 4, 4, 3, 3).transpose(1, 2).reshape(3, 16, 3, 3)),
    ("Resize", ["x", "", "twice"],
     {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"},
     lambda x: F.interpolate(x, scale_factor=2, mode="nearest")),
    ("Resize", ["x", "", "twice"], {"mode": "linear", "coordinate_transformation_mode": "pytorch_half_pixel"},
     lambda x: F.interpolate(x, scale_factor=2, mode="bilinear")),
    ("ConvTranspose", ["x", "kernel"], {"strides": [2, 2], "pads": [1, 1, 1, 1], "output_padding": [1, 1]},
     lambda x: F.conv_transpose2d(x, KERNEL, stride=2, padding=1, output_padding=1)),
    ("MaxPool", ["x"], {"kernel_shape": [2, 2], "strides": [2, 2]}, lambda x: F.max_pool2d(x, 2)),
    ("AveragePool", ["x"], {"kernel_shape": [2, 2], "strides": [2, 2]}, lambda x: F.avg_pool2d(x, 2)),
    ("GlobalAveragePool", ["x"], {}, lambda x: x.mean((2, 3), keepdim=True)),
    ("GlobalMaxPool", ["x"], {}, lambda x: x.amax((2, 3), keepdim=True)),
    ("Pad", ["x", "pads"], {"mode": "reflect"}, lambda x: F.pad(x, (1, 1, 1, 1), mode="reflect")),
    ("ReduceMean", ["x", "last"], {"keepdims": 0}, lambda x: x.mean(-1)),
    ("ReduceSum", ["x", "last"], {"keepdims": 0}, lambda x: x.sum(-1)),
    ("ReduceMin", ["x", "last"], {"keepdims": 0}, lambda x: x.amin(-1)),
    ("ReduceL2", ["x", "last"], {"keepdims": 0}, lambda x: x.norm(dim=-1)),
    ("ReduceSumSquare", ["x", "last"], {"keepdims": 0}, lambda x: x.square().sum(-1)),
    ("ReduceProd", ["x", "last"], {"keepdims": 0}, lambda x: x.prod(-1)),
    ("Gather", ["x", "index"], {"axis": 1}, lambda x: x[:, [2, 0]]),
    ("Tile", ["x", "repeats"], {}, lambda x: x.repeat(1, 1, 2, 1)),
    ("Einsum", ["x", "x"], {"equation": "bchw,bdhw->bcd"}, lambda x: torch.einsum("bchw,bdhw->bcd", x, x)),
    ("CumSum", ["x", "axis"], {}, lambda x: x.cumsum(-1)),
    ("Floor", ["x"], {}, torch.floor),
    ("Ceil", ["x"], {}, torch.ceil),
    ("Sum", ["x", "x", "x"], {}, lambda x: 3 * x),
    ("Mean", ["x", "x"], {}, lambda x: x),
    ("Trilu", ["x"], {"upper": 0}, torch.tril),
    ("GatherElements", ["x", "columns"], {"axis": -1}, lambda x: x[..., [3, 1]]),
    ("GatherND", ["x", "places_of"], {"batch_dims": 1}, lambda x: x[:, 1, 2]),
    ("ScatterElements", ["x", "columns", "halves_of"], {"axis": -1},
     lambda x: x.index_fill(-1, torch.tensor([1, 3]), 0.5)),
    ("ScatterND", ["x", "rows_of", "row_of"], {}, lambda x: torch.cat([torch.ones_like(x[:1]), x[1:]])),
    ("ReduceLogSumExp", ["x", "last"], {"keepdims": 0}, lambda x: x.logsumexp(-1)),
    ("ReduceLogSum", ["square", "last"], {"keepdims": 0}, lambda x: x.square().sum(-1).log()),
    ("ReduceL1", ["x", "last"], {"keepdims": 0}, lambda x: x.abs().sum(-1)),
    ("Sinh", ["x"], {}, torch.sinh),
    ("Cosh", ["x"], {}, torch.cosh),
    ("Tan", ["x"], {}, torch.tan),
    ("Asin", ["share"], {}, lambda x: torch.asin(torch.sigmoid(x))),
    ("Acos", ["share"], {}, lambda x: torch.acos(torch.sigmoid(x))),
    ("Atan", ["x"], {}, torch.atan),
    ("Asinh", ["x"], {}, torch.asinh),
    ("Acosh", ["large"], {}, lambda x: torch.acosh(x.clamp(min=1))),
    ("Atanh", ["share"], {}, lambda x: torch.atanh(torch.sigmoid(x))),
    ("Shrink", ["x"], {"lambd": 0.5, "bias": 0.5}, F.softshrink),
    ("LRN", ["x"], {"size": 3}, lambda x: F.local_response_norm(x, 3)),
    ("GridSample", ["x", "grid"], {"align_corners": 0},
     lambda x: F.grid_sample(x, GRID, align_corners=False)),
]  # fmt: skip


def run(nodes: list[Any], output: tuple[int, ...], opset: int = 18) -> np.ndarray:
    """The output of a graph of these nodes, which keeps the rules."""
    numbers = {"zero": 0, "one": 1, "start": 0, "end": 6, "step": 1}
    constants: dict[str, Any] = CONSTANTS | {name: np.float32(number) for name, number in numbers.items()}
    constants |= {
        "axis": np.int64(-1), "six": np.array([6]), "two": np.array([2]), "depth": np.int64(6),
        "off_on": np.array([0, 1], np.float32), "square_of": np.zeros((6, 6), np.float32),
    }  # fmt: skip
    used = {name for node in nodes for name in node.input}
    tensors = [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items() if k in used]
    rank = len(output)
    graph = helper.make_graph(
        nodes,
        "one",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", *IMAGES.shape[1:]])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", *[None] * (rank - 1)])],
        tensors,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    check_graph("one", model)
    array: np.ndarray = open_session(model.SerializeToString()).run(None, {"x": IMAGES.numpy()})[0]
    return array


@pytest.mark.parametrize("case", CASES, ids=lambda case: case[0])
def test_an_operator_is_allowed_and_agrees_with_torch(case: Case) -> None:
    operator, inputs, attributes, function = case
    wanted = function(IMAGES).numpy()
    before = [helper.make_node(*FIRST[name], [name]) for name in inputs if name in FIRST]
    got = run([*before, helper.make_node(operator, inputs, ["y"], **attributes)], wanted.shape)
    assert got.shape == wanted.shape
    assert (np.abs(got - wanted) <= 1e-5 * (1 + np.abs(wanted))).all()


@pytest.mark.parametrize(
    ("operator", "attributes", "opset", "function"),
    [
        ("Gelu", {}, 20, F.gelu),
        ("Gelu", {"approximate": "tanh"}, 20, lambda x: F.gelu(x, approximate="tanh")),
        (
            "GroupNormalization", {"num_groups": 2}, 21,
            lambda x: F.group_norm(x, 2, WEIGHTS["scale"], WEIGHTS["bias"]),
        ),
    ],
)  # fmt: skip
def test_operators_of_newer_opsets_agree_with_torch(
    operator: str, attributes: dict[str, Any], opset: int, function: Callable[[Tensor], Tensor]
) -> None:
    wanted = function(IMAGES).numpy()
    inputs = ["x", "scale", "bias"] if operator == "GroupNormalization" else ["x"]
    got = run([helper.make_node(operator, inputs, ["y"], **attributes)], wanted.shape, opset)
    assert (np.abs(got - wanted) <= 1e-5 * (1 + np.abs(wanted))).all()


Part = tuple[str, list[str], list[str], dict[str, Any]]
"""The operator, inputs, outputs and attributes of a node."""
COMPOSED: dict[str, tuple[list[Part], Callable[[Tensor], Tensor]]] = {
    "attention and SiLU": (
        [
            ("Transpose", ["x"], ["t"], {"perm": [0, 1, 3, 2]}),
            ("MatMul", ["x", "t"], ["weights"], {}),
            ("Softmax", ["weights"], ["shares"], {"axis": -1}),
            ("MatMul", ["shares", "x"], ["seen"], {}),
            ("Sigmoid", ["seen"], ["gate"], {}),
            ("Mul", ["seen", "gate"], ["y"], {}),
        ],
        lambda x: F.silu(attention(x)),
    ),
    "conditions": (
        [
            ("LessOrEqual", ["x", "zero"], ["low"], {}),
            ("Equal", ["x", "zero"], ["same"], {}),
            ("Greater", ["x", "one"], ["high"], {}),
            ("Not", ["same"], ["other"], {}),
            ("And", ["low", "other"], ["below"], {}),
            ("Or", ["below", "high"], ["outside"], {}),
            ("CastLike", ["zero", "x"], ["nothing"], {}),
            ("Where", ["outside", "nothing", "x"], ["y"], {}),
        ],
        lambda x: torch.where((x < 0) | (x > 1), 0.0, x),
    ),
    "gaps": (
        [
            ("Sqrt", ["x"], ["root"], {}),
            ("IsNaN", ["root"], ["gone"], {}),
            ("Where", ["gone", "zero", "root"], ["y"], {}),
        ],
        lambda x: torch.nan_to_num(torch.sqrt(x), nan=0.0),
    ),
    "positions": (
        [
            ("Range", ["start", "end", "step"], ["counted"], {}),
            ("Mod", ["counted", "end"], ["wrapped"], {"fmod": 1}),
            ("ConstantOfShape", ["six"], ["zeros"], {}),
            ("Add", ["wrapped", "zeros"], ["ramp"], {}),
            ("Mul", ["x", "ramp"], ["y"], {}),
        ],
        lambda x: x * torch.arange(6),
    ),
    "places of the largest": (
        [
            ("ArgMax", ["x"], ["largest"], {"axis": -1, "keepdims": 0}),
            ("ArgMin", ["x"], ["least"], {"axis": -1, "keepdims": 0}),
            ("Sub", ["largest", "least"], ["apart"], {}),
            ("Cast", ["apart"], ["y"], {"to": TensorProto.FLOAT}),
        ],
        lambda x: (x.argmax(-1) - x.argmin(-1)).float(),
    ),
    "the largest": (
        [("TopK", ["x", "two"], ["y", "places_unused"], {"axis": -1})],
        lambda x: x.topk(2, -1).values,
    ),
    "a class of each row": (
        [
            ("ArgMax", ["x"], ["largest"], {"axis": -1, "keepdims": 0}),
            ("OneHot", ["largest", "depth", "off_on"], ["y"], {"axis": -1}),
        ],
        lambda x: F.one_hot(x.argmax(-1), 6).float(),
    ),
    "either": (
        [
            ("Div", ["x", "zero"], ["quotient"], {}),
            ("IsInf", ["quotient"], ["endless"], {"detect_negative": 0}),
            ("Greater", ["x", "one"], ["high"], {}),
            ("Xor", ["endless", "high"], ["either"], {}),
            ("Cast", ["either"], ["y"], {"to": TensorProto.FLOAT}),
        ],
        lambda x: ((x > 0) ^ (x > 1)).float(),
    ),
    "sizes": (
        [
            ("Size", ["places"], ["count"], {}),
            ("Cast", ["count"], ["number"], {"to": TensorProto.FLOAT}),
            ("EyeLike", ["square_of"], ["eye"], {}),
            ("MatMul", ["x", "eye"], ["same"], {}),
            ("Mul", ["same", "number"], ["y"], {}),
        ],
        lambda x: 2 * x,
    ),
    "halves": (
        [
            ("Split", ["x", "halves"], ["first", "second"], {"axis": 1}),
            ("Sub", ["first", "second"], ["y"], {}),
        ],
        lambda x: x[:, :2] - x[:, 2:],
    ),
}


@pytest.mark.parametrize("name", COMPOSED)
def test_operators_that_work_together_agree_with_torch(name: str) -> None:
    parts, function = COMPOSED[name]
    wanted = function(IMAGES).numpy()
    nodes = [helper.make_node(operator, given, results, **more) for operator, given, results, more in parts]
    got = run(nodes, wanted.shape)
    assert (np.abs(got - wanted) <= 1e-5 * (1 + np.abs(wanted))).all()


def test_every_operator_beside_those_of_recipes_is_compared_with_torch() -> None:
    recipes = set(RECIPES.split())
    compared = {case[0] for case in CASES} | {"Gelu", "GroupNormalization", "RNN", "GRU", "LSTM"}
    compared |= {part[0] for parts, _ in COMPOSED.values() for part in parts}
    assert compared | recipes >= ALLOWED_OPERATORS
    assert not any(each.startswith("Random") for each in ALLOWED_OPERATORS)
    assert not ALLOWED_OPERATORS & {"If", "Loop", "Scan", "Bernoulli", "Multinomial"}
