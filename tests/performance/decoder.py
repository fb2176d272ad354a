"""The decoder that speed is measured on: random weights, fixed seed, published as `bench-decoder`.

    python -m tests.performance.decoder FOLDER        # publishes it, for other servers to serve the same file

It maps latents [B, 32] to samples [B, 1, 28, 28] as a small trained decoder would: Gemm, Gemm,
ConvTranspose, ConvTranspose, Conv, Sigmoid; 1.7 million parameters, 16.5 million floating-point
operations a sample (two per multiplication and addition). At other widths than 1 it has that many times the
channels, and about the square of that many times the operations.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from service.format.manifest import Manifest
from service.format.specs import FileSpec, GraphSpec, Provenance, TensorSpec
from service.format.versions import publish, sha256_of, stage
from service.numerics.noise import NOISE, Stream, normals

NAME: Final = "bench-decoder"
LATENT_SIZE: Final = 32
ITEM_SHAPE: Final = (1, 28, 28)
WEIGHTS_SEED: Final = 0

_GRAPH_FILE = "decode.onnx"
_SELF_TEST_FILE = "self-test.npz"
_OPSET = 18
_IR_VERSION = 10
_LATENTS = TensorSpec(name="latents", shape=("rows", LATENT_SIZE))
_SAMPLES = TensorSpec(name="samples", shape=("rows", *ITEM_SHAPE))


@dataclass(frozen=True, slots=True)
class _Layer:
    """One operator with weights, and the operators after it."""

    operator: str
    weights: tuple[int, ...]
    inputs_per_output: int
    bias: int
    attributes: dict[str, Any]
    then: str = "Relu"


_UPSAMPLING: Final = {"kernel_shape": [4, 4], "strides": [2, 2], "pads": [1, 1, 1, 1]}
_SMOOTHING: Final = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}


def _layers(width: float) -> tuple[_Layer, ...]:
    hidden, wide, narrow = (round(channels * width) for channels in (512, 64, 16))
    return (
        _Layer("Gemm", (LATENT_SIZE, hidden), LATENT_SIZE, hidden, {}),
        _Layer("Gemm", (hidden, wide * 7 * 7), hidden, wide * 7 * 7, {}, then="Reshape"),
        # strides of 2 leave 2 x 2 of the 4 x 4 kernel for every output pixel
        _Layer("ConvTranspose", (wide, wide, 4, 4), wide * 4, wide, _UPSAMPLING),
        _Layer("ConvTranspose", (wide, narrow, 4, 4), wide * 4, narrow, _UPSAMPLING),
        _Layer("Conv", (1, narrow, 3, 3), narrow * 9, 1, _SMOOTHING, then="Sigmoid"),
    )


def parameters(width: float) -> int:
    """Return the number of weights and biases of the decoder of that width."""
    return sum(math.prod(layer.weights) + layer.bias for layer in _layers(width))


def name_of(width: float) -> str:
    """Return the published name of the decoder of that width; it ends in the width in per cent if not 1."""
    return NAME if width == 1 else f"{NAME}-{round(100 * width)}"


def decoder_model(width: float = 1) -> ModelProto:
    """The decoder as a checked ONNX model; equal bytes for equal versions of numpy and onnx."""
    generator = np.random.default_rng(WEIGHTS_SEED)
    layers = _layers(width)
    picture = np.array([-1, layers[2].weights[0], 7, 7], dtype=np.int64)
    constants: dict[str, NDArray[Any]] = {"picture_shape": picture}
    nodes: list[NodeProto] = []
    current = _LATENTS.name
    for number, layer in enumerate(layers):
        scale = np.float32(np.sqrt(2.0 / layer.inputs_per_output))  # keeps the variance through a Relu
        weights, bias = f"weights_{number}", f"bias_{number}"
        constants[weights] = generator.standard_normal(layer.weights, dtype=np.float32) * scale
        constants[bias] = np.zeros(layer.bias, dtype=np.float32)
        result = f"sums_{number}"
        nodes.append(helper.make_node(layer.operator, [current, weights, bias], [result], **layer.attributes))
        current = _append_activation(nodes, layer, result, number)
    return _checked_model(nodes, constants)


def _append_activation(nodes: list[NodeProto], layer: _Layer, source: str, number: int) -> str:
    target = _SAMPLES.name if layer.then == "Sigmoid" else f"values_{number}"
    if layer.then == "Reshape":
        nodes.append(helper.make_node("Relu", [source], [f"rows_{number}"]))
        nodes.append(helper.make_node("Reshape", [f"rows_{number}", "picture_shape"], [target]))
    else:
        nodes.append(helper.make_node(layer.then, [source], [target]))
    return target


def _checked_model(nodes: list[NodeProto], constants: dict[str, NDArray[Any]]) -> ModelProto:
    graph = helper.make_graph(
        nodes,
        "decode",
        [helper.make_tensor_value_info(_LATENTS.name, TensorProto.FLOAT, _LATENTS.shape)],
        [helper.make_tensor_value_info(_SAMPLES.name, TensorProto.FLOAT, _SAMPLES.shape)],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR_VERSION, producer_name=NAME
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def publish_decoder(models: Path, width: float = 1) -> Path:
    """Publishes the decoder under `models` and returns the version's folder.

    The self-test holds two rows, computed by onnx's reference evaluator, not by ONNX Runtime.
    """
    model = decoder_model(width)
    staging = stage(models, name_of(width))
    onnx.save(model, staging / _GRAPH_FILE)
    latents = normals(1, Stream.LATENT, 0, 2, LATENT_SIZE)
    (samples,) = ReferenceEvaluator(model).run(None, {_LATENTS.name: latents})
    example = {"decode.inputs.latents": latents, "decode.outputs.samples": samples}
    np.savez(staging / _SELF_TEST_FILE, allow_pickle=False, **example)
    return publish(staging, _manifest(staging, name_of(width)))


def _manifest(staging: Path, name: str) -> Manifest:
    return Manifest(
        name=name,
        version=1,
        family="gan",
        description="Random weights, made to measure speed; the samples mean nothing.",
        item_shape=ITEM_SHAPE,
        support="unit_interval",
        value_range=(0.0, 1.0),
        latent_size=LATENT_SIZE,
        prior="standard_normal",
        likelihood=None,
        noise=NOISE,
        graphs={
            "decode": GraphSpec(
                file=_GRAPH_FILE,
                sha256=sha256_of(staging / _GRAPH_FILE),
                inputs=(_LATENTS,),
                outputs=(_SAMPLES,),
            )
        },
        metrics={},
        provenance=Provenance(
            recipe={"weights": "random"},
            commit="",
            seed=WEIGHTS_SEED,
            libraries={"numpy": np.__version__, "onnx": onnx.__version__},
        ),
        parity={},
        self_test=FileSpec(file=_SELF_TEST_FILE, sha256=sha256_of(staging / _SELF_TEST_FILE)),
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Publishes the decoder into a folder and says where its graph is."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    version = publish_decoder(parser.parse_args(arguments).folder)
    sys.stdout.write(f"{version / _GRAPH_FILE}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
