"""Ways to break the graph `decode` of a published version, each with the message about it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.external_data_helper import set_external_data

from service.format.versions import sha256_of

GRAPH = "decode.onnx"


def flip_a_byte(version: Path) -> None:
    content = bytearray((version / GRAPH).read_bytes())
    content[len(content) // 2] ^= 1
    (version / GRAPH).write_bytes(content)


def truncate(version: Path) -> None:
    content = (version / GRAPH).read_bytes()
    (version / GRAPH).write_bytes(content[: len(content) // 2])
    _pin(version)


def take_the_graph_away(version: Path) -> None:
    (version / GRAPH).unlink()


def take_the_manifest_away(version: Path) -> None:
    (version / "manifest.json").unlink()


def use_an_unknown_operator(version: Path) -> None:
    def change(model: Any) -> None:
        next(node for node in model.graph.node if node.op_type == "Sigmoid").op_type = "Frobnicate"

    edit(version, change)


def give_items_another_shape(version: Path) -> None:
    def change(model: Any) -> None:
        kept = [tensor for tensor in model.graph.initializer if tensor.name != "item"]
        other = numpy_helper.from_array(np.array([-1, 1, 4, 1]), "item")
        del model.graph.initializer[:], model.graph.output[:]
        model.graph.initializer.extend([*kept, other])
        model.graph.output.append(
            helper.make_tensor_value_info("samples", TensorProto.FLOAT, ["rows", 1, "height", "width"])
        )

    edit(version, change)


def take_another_latent_size(version: Path) -> None:
    change_manifest(version, lambda manifest: manifest.update(latent_size=3))


def ask_for_gigabytes(version: Path) -> None:
    _add_to_samples(
        version,
        [
            helper.make_node("Shape", ["latents"], ["size"]),  # unknown until it runs
            helper.make_node("Mul", ["size", "much"], ["sizes"]),
            helper.make_node("ConstantOfShape", ["sizes"], ["nothing"]),
            helper.make_node("ReduceMax", ["nothing"], ["least"], keepdims=0),
        ],
        {"much": np.array([2**13, 2**14])},  # a gigabyte a row
    )


def take_an_age(version: Path) -> None:
    """Multiplies large matrices thousands of times."""
    side, times = 2_048, 3_000
    nodes = [
        helper.make_node("Shape", ["latents"], ["size"]),  # unknown until it runs
        helper.make_node("Mul", ["size", "naught"], ["nothing"]),
        helper.make_node("Add", ["nothing", "sides"], ["sizes"]),
        helper.make_node("ConstantOfShape", ["sizes"], ["product0"]),
        *(
            helper.make_node("MatMul", [f"product{turn}", f"product{turn}"], [f"product{turn + 1}"])
            for turn in range(times)
        ),
        helper.make_node("ReduceMax", [f"product{times}"], ["least"], keepdims=0),
    ]
    _add_to_samples(version, nodes, {"naught": np.array(0), "sides": np.array([side, side])})


def loop_without_end(version: Path) -> None:
    carried = [helper.make_tensor_value_info("carried", TensorProto.FLOAT, [])]
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go_on"], ["still"]),
            helper.make_node("Identity", ["carried"], ["next"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            *carried,
        ],
        [
            helper.make_tensor_value_info("still", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, []),
        ],
    )
    _add_to_samples(
        version,
        [
            helper.make_node("ReduceMax", ["latents"], ["largest"], keepdims=0),
            helper.make_node("Mul", ["largest", "naught"], ["first"]),
            helper.make_node("Loop", ["turns", "true", "first"], ["least"], body=body),
        ],
        {"turns": np.array(2**62), "true": np.array(True), "naught": np.float32(0)},
    )


def give_doubles(version: Path) -> None:
    def change(model: Any) -> None:
        last = next(node for node in model.graph.node if node.output[0] == "samples")
        last.output[0] = "plain"
        model.graph.node.append(helper.make_node("Cast", ["plain"], ["samples"], to=TensorProto.DOUBLE))
        model.graph.output[0].type.tensor_type.elem_type = TensorProto.DOUBLE

    edit(version, change)


def keep_weights_in_another_file(version: Path) -> None:
    def change(model: Any) -> None:
        weights = next(tensor for tensor in model.graph.initializer if tensor.name == "decoder")
        set_external_data(weights, "weights.bin")

    edit(version, change)


def divide_beyond_int32(version: Path) -> None:
    """Ends the process that loads it: 2^31 is no int32, and x86 ends by a signal who divides to it."""

    def change(model: Any) -> None:
        for name, value in (("least", -(2**31)), ("minus_one", -1)):
            model.graph.initializer.append(helper.make_tensor(name, TensorProto.INT32, [1], [value]))
        model.graph.node.append(helper.make_node("Div", ["least", "minus_one"], ["quotient"]))
        model.graph.output.append(helper.make_tensor_value_info("quotient", TensorProto.INT32, [1]))

    edit(version, change)


DAMAGES: list[tuple[Callable[[Path], None], str]] = [
    (flip_a_byte, r"^decode\.onnx: its SHA-256 is not the manifest's"),
    (truncate, r"^decode\.onnx: ONNX Runtime cannot load it: .*[Pp]rotobuf"),
    (take_the_graph_away, r"^decode\.onnx: missing"),
    (take_the_manifest_away, r"^manifest\.json: cannot be read"),
    (use_an_unknown_operator, r"^decode\.onnx: ONNX Runtime cannot load it: .*Frobnicate"),
    (
        give_items_another_shape,
        r"^decode\.onnx: samples is \[2, 1, 4, 1\], the manifest says \[2, 1, 2, 2\]",
    ),
    (give_doubles, r"^decode\.onnx: samples is a tensor\(double\), the manifest says float32"),
    (
        keep_weights_in_another_file,
        r"^decode\.onnx: .*: its weights are in a file that the manifest does not name",
    ),
    (take_another_latent_size, r"mean is \['rows', 2\], by the model's sizes it would be \['rows', 3\]"),
    (ask_for_gigabytes, r"^its trial needed more memory than the 1,074 MB"),
    (take_an_age, r"^its trial took longer than the 3 s"),
    (loop_without_end, r"^decode\.onnx has Loop, whose time depends on values"),
]


def change_manifest(version: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Changes the manifest alone."""
    path = version / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))


def edit(version: Path, change: Callable[[Any], None]) -> None:
    """Changes the graph, so that its hash is right and nothing but the change is wrong."""
    model = onnx.load(version / GRAPH)
    change(model)
    onnx.save(model, version / GRAPH)
    _pin(version)


def _pin(version: Path) -> None:
    digest = sha256_of(version / GRAPH)
    change_manifest(version, lambda manifest: manifest["graphs"]["decode"].update(sha256=digest))


def _add_to_samples(version: Path, nodes: list[Any], constants: dict[str, Any]) -> None:
    """Adds the scalar `least`, which those nodes compute, to the samples."""

    def change(model: Any) -> None:
        last = next(node for node in model.graph.node if node.output[0] == "samples")
        last.output[0] = "plain"
        model.graph.node.extend([*nodes, helper.make_node("Add", ["plain", "least"], ["samples"])])
        model.graph.initializer.extend(
            numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()
        )

    edit(version, change)
