"""Small networks of torch as a stranger writes them, and the same as ONNX files, without the exporter."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn


class Encoder(nn.Module):
    """Items (B, ...) -> two tensors (B, D): the mean, and a second one by `gives`."""

    def __init__(self, inputs: int, latent: int, gives: str = "log_variance", hidden: int = 24) -> None:
        super().__init__()
        self.hidden, self.gives = nn.Linear(inputs, hidden), gives
        self.mean, self.second = nn.Linear(hidden, latent), nn.Linear(hidden, latent)

    def forward(self, items: Tensor) -> tuple[Tensor, Tensor]:
        hidden = torch.tanh(self.hidden(items.flatten(1)))
        second = self.second(hidden)
        return self.mean(hidden), torch.exp(0.5 * second) if self.gives == "scale" else second


class Decoder(nn.Module):
    """Latents (B, D) -> items (B, *shape) through a last function; two tensors if `scales`."""

    def __init__(
        self,
        latent: int,
        shape: tuple[int, ...],
        last: str = "Sigmoid",
        scales: bool = False,
        hidden: int = 24,
    ) -> None:
        super().__init__()
        self.shape, self.last, self.scales = shape, last, scales
        self.hidden = nn.Linear(latent, hidden)
        self.out = nn.Linear(hidden, math.prod(shape))
        self.scale = nn.Linear(hidden, math.prod(shape))

    def forward(self, latents: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        hidden = torch.tanh(self.hidden(latents))
        functions: dict[str, Any] = {"Sigmoid": torch.sigmoid, "Tanh": torch.tanh, "Identity": nn.Identity()}
        first: Tensor = functions[self.last](self.out(hidden)).reshape(-1, *self.shape)
        if not self.scales:
            return first
        return first, nn.functional.softplus(self.scale(hidden)).reshape(first.shape) + 0.05


class Judge(nn.Module):
    """Items (B, ...) -> logits (B, 1)."""

    def __init__(self, inputs: int, hidden: int = 24) -> None:
        super().__init__()
        self.hidden, self.out = nn.Linear(inputs, hidden), nn.Linear(hidden, 1)

    def forward(self, items: Tensor) -> Tensor:
        logits: Tensor = self.out(torch.tanh(self.hidden(items.flatten(1))))
        return logits


def write_onnx(
    path: Path,
    network: Encoder | Decoder | Judge,
    row: tuple[int, ...],
    batch: int | str = "rows",
    opset: int = 18,
) -> Path:
    """Writes a network as ONNX node by node; `row` is the shape of a row of its input."""
    nodes = [
        helper.make_node("Flatten", ["given"], ["flat"], axis=1),
        helper.make_node("Gemm", ["flat", "hidden.weight", "hidden.bias"], ["linear"], transB=1),
        helper.make_node("Tanh", ["linear"], ["rows_hidden"]),
    ]
    outputs: list[tuple[str, tuple[int, ...]]] = []
    constants: dict[str, Any] = {}

    def head(layer: str, output: str, shape: tuple[int, ...], function: str = "Identity") -> None:
        constants[f"{output}.shape"] = np.array([-1, *shape])
        given = ["rows_hidden", f"{layer}.weight", f"{layer}.bias"]
        nodes.append(helper.make_node("Gemm", given, [f"{output}_0"], transB=1))
        nodes.append(helper.make_node(function, [f"{output}_0"], [f"{output}_1"]))
        nodes.append(helper.make_node("Reshape", [f"{output}_1", f"{output}.shape"], [output]))
        outputs.append((output, shape))

    if isinstance(network, Encoder):
        latent = (network.mean.out_features,)
        head("mean", "mean", latent)
        head("second", "log_variance", latent)
        if network.gives == "scale":
            constants["half"] = np.float32(0.5)
            nodes += [
                helper.make_node("Mul", ["log_variance", "half"], ["halved"]),
                helper.make_node("Exp", ["halved"], ["scales"]),
            ]
            outputs[-1] = ("scales", latent)
    elif isinstance(network, Decoder):
        head("out", "items", network.shape, network.last)
        if network.scales:
            head("scale", "soft", network.shape, "Softplus")
            constants["least"] = np.float32(0.05)
            nodes.append(helper.make_node("Add", ["soft", "least"], ["scales"]))
            outputs[-1] = ("scales", network.shape)
    else:
        head("out", "logit", (1,))
    weights = {name: tensor.detach().numpy() for name, tensor in network.named_parameters()}
    used = {name for node in nodes for name in node.input}
    held = {name: array for name, array in (weights | constants).items() if name in used}
    tensors = [numpy_helper.from_array(np.asarray(array), name) for name, array in held.items()]
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("given", TensorProto.FLOAT, [batch, *row])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, *shape]) for name, shape in outputs],
        tensors,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)
    return path
