"""Recurrent layers are operators of ONNX: allowed in graphs, and equal to torch's in ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from training.export.rules import ALLOWED_OPERATORS, check_graph
from training.export.sessions import open_session

STEPS, WIDTH, HIDDEN = 5, 3, 4
GATES = {"RNN": [0], "GRU": [1, 0, 2], "LSTM": [0, 3, 1, 2]}
"""The places of ONNX's gates among torch's: update, reset, new; input, output, forget, cell."""


def reordered(tensor: torch.Tensor, kind: str) -> np.ndarray:
    gates = tensor.detach().numpy().reshape(len(GATES[kind]), HIDDEN, *tensor.shape[1:])
    ordered: np.ndarray = gates[GATES[kind]].reshape(1, *tensor.shape)
    return ordered


@pytest.mark.parametrize("kind", GATES)
def test_a_recurrent_layer_agrees_with_torch_in_every_batch(kind: str) -> None:
    layer: Any = getattr(nn, kind)(WIDTH, HIDDEN, batch_first=True)
    biases = [reordered(getattr(layer, f"bias_{which}_l0"), kind) for which in ("ih", "hh")]
    constants = {
        "w": reordered(layer.weight_ih_l0, kind), "r": reordered(layer.weight_hh_l0, kind),
        "b": np.concatenate(biases, 1), "direction": np.array([1]),
    }  # fmt: skip
    more: Any = {"linear_before_reset": 1} if kind == "GRU" else {}
    graph = helper.make_graph(
        [
            helper.make_node("Transpose", ["x"], ["by_step"], perm=[1, 0, 2]),
            helper.make_node(kind, ["by_step", "w", "r", "b"], ["all"], hidden_size=HIDDEN, **more),
            helper.make_node("Squeeze", ["all", "direction"], ["one"]),
            helper.make_node("Transpose", ["one"], ["y"], perm=[1, 0, 2]),
        ],
        "layer",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", STEPS, WIDTH])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", STEPS, HIDDEN])],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    assert kind in ALLOWED_OPERATORS
    check_graph("layer", model)
    session, items = open_session(model.SerializeToString()), torch.randn(64, STEPS, WIDTH)
    with torch.no_grad():
        wanted = layer(items)[0].numpy()
    for rows in (1, 2, 7, 64):
        got = session.run(None, {"x": items[:rows].numpy()})[0]
        assert (np.abs(got - wanted[:rows]) <= 1e-5 * (1 + np.abs(wanted[:rows]))).all()
