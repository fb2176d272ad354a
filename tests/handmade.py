"""Versions made of graphs that are written node by node, for tests against numbers no exporter made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from service.format.manifest import Manifest
from service.format.specs import (
    CalibratedStatistic,
    CalibrationSpec,
    FileSpec,
    GraphName,
    GraphSpec,
    Provenance,
    ScoreDefaults,
    TensorSpec,
)
from service.format.versions import publish, sha256_of
from service.numerics.calibration import bounds_from_terms, surprise
from service.numerics.noise import scoring_noise

DRAWS, SEED, CALIBRATION_ITEMS = 8, 5, 199
TERMS: tuple[int | str, ...] = ("rows", "draws")

Shape = tuple[int | str, ...]


def gaussian_nodes(values: str, variance: str, log_two_pi_variance: str, output: str) -> list[Any]:
    """Nodes for the log density (B, K) at `values` (B, K, D) of a Gaussian around zero."""
    return [
        helper.make_node("Mul", [values, values], [f"{output}_square"]),
        helper.make_node("Div", [f"{output}_square", variance], [f"{output}_scaled"]),
        helper.make_node("Add", [f"{output}_scaled", log_two_pi_variance], [f"{output}_sum"]),
        helper.make_node("ReduceSum", [f"{output}_sum", "axis_2"], [f"{output}_total"], keepdims=0),
        helper.make_node("Mul", [f"{output}_total", "minus_half"], [output]),
    ]


def gaussian_kl_nodes() -> list[Any]:
    """Nodes for `kl` (B,), that of the posterior at `mean` (B, D) and its constant variance to N(0, I)."""
    return [
        helper.make_node("Mul", ["mean", "mean"], ["mean_square"]),
        helper.make_node("Add", ["mean_square", "kl_constant"], ["kl_sum"]),
        helper.make_node("ReduceSum", ["kl_sum", "axis_1"], ["kl_total"], keepdims=0),
        helper.make_node("Mul", ["kl_total", "half"], ["kl"]),
    ]


def shared_constants(log_variance: np.float32) -> dict[str, Any]:
    """The constants of the nodes above, and a few more, for a posterior of that constant log-variance."""
    log_two_pi = np.log(2 * np.pi)
    return {
        **{f"axis_{axis}": np.array([axis]) for axis in range(4)},
        "zero": np.float32(0),
        "one": np.float32(1),
        "half": np.float32(0.5),
        "minus_half": np.float32(-0.5),
        "variance": log_variance,
        "scale": np.float32(np.exp(0.5 * log_variance)),
        "log_two_pi": np.float32(log_two_pi),
        "log_two_pi_variance": np.float32(log_two_pi + log_variance),
        "kl_constant": np.float32(np.exp(log_variance) - 1 - log_variance),
    }


def write_graph(
    staging: Path,
    name: str,
    nodes: list[Any],
    constants: dict[str, Any],
    inputs: dict[str, Shape],
    outputs: dict[str, Shape],
) -> GraphSpec:
    """Writes a graph of those nodes and of the constants they use."""
    used = {given for node in nodes for given in node.input}
    tensors = [
        numpy_helper.from_array(np.asarray(value), key) for key, value in constants.items() if key in used
    ]
    graph = helper.make_graph(nodes, name, _infos(inputs), _infos(outputs), tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    path = staging / f"{name}.onnx"
    onnx.save(model, path)
    return GraphSpec(file=path.name, sha256=sha256_of(path), inputs=_specs(inputs), outputs=_specs(outputs))


def write_vae_graphs(
    staging: Path,
    nodes: dict[GraphName, list[Any]],
    constants: dict[str, Any],
    item: tuple[int, ...],
    latent: int,
    classes: int = 0,
) -> dict[GraphName, GraphSpec]:
    """Writes the four graphs of a VAE of such items, by the names and shapes of the contract."""
    labels: dict[str, Shape] = {"labels": ("rows", classes)} if classes else {}
    items: dict[str, Shape] = {"inputs": ("rows", *item)}
    latents: dict[str, Shape] = {"latents": ("rows", latent)}
    posterior: dict[str, Shape] = {"mean": ("rows", latent), "log_variance": ("rows", latent)}
    samples: dict[str, Shape] = {"samples": ("rows", *item)}
    terms: dict[str, Shape] = {"log_likelihood": TERMS, "log_prior": TERMS, "log_posterior": TERMS}
    tensors: dict[GraphName, tuple[dict[str, Shape], dict[str, Shape]]] = {
        "encode": (items | labels, posterior),
        "decode": (latents | labels, samples),
        "draw": (latents | {"uniforms": ("rows", *item)} | labels, samples),
        "score": (items | {"eps": (*TERMS, latent)} | labels, terms | {"kl": ("rows",)}),
    }
    return {name: write_graph(staging, name, nodes[name], constants, *tensors[name]) for name in tensors}


def _infos(tensors: dict[str, Shape]) -> list[Any]:
    return [helper.make_tensor_value_info(key, TensorProto.FLOAT, shape) for key, shape in tensors.items()]


def _specs(tensors: dict[str, Shape]) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(name=name, shape=shape) for name, shape in tensors.items())


def publish_version(
    staging: Path,
    name: str,
    graphs: dict[GraphName, GraphSpec],
    calibration_items: NDArray[np.float32],
    calibration_labels: NDArray[np.float32] | None = None,
    **fields: Any,
) -> Path:
    """Publishes a staged VAE with its calibration and self-test; `fields` are the rest of its manifest."""
    return publish_graphs(
        staging,
        name,
        graphs,
        family="vae",
        calibration=_calibration(
            staging, calibration_items, fields["latent_size"], fields["prior"], calibration_labels
        ),
        defaults=ScoreDefaults(statistic="elbo", draws=DRAWS, seed=SEED, alpha=0.05),
        **fields,
    )


def publish_graphs(staging: Path, name: str, graphs: dict[GraphName, GraphSpec], **fields: Any) -> Path:
    """Publishes a staged version with its self-test; `fields` are the rest of its manifest."""
    manifest = Manifest(
        name=name,
        version=1,
        noise="philox4x64-boxmuller-1",
        graphs=graphs,
        metrics={},
        provenance=Provenance(recipe={}, commit="none", seed=2, libraries={}),
        parity={},
        self_test=_self_test(staging, graphs),
        **fields,
    )
    return publish(staging, manifest)


def _calibration(
    staging: Path,
    inputs: NDArray[np.float32],
    latent_size: int,
    prior: object,
    labels: NDArray[np.float32] | None,
) -> CalibrationSpec:
    eps = np.broadcast_to(scoring_noise(SEED, DRAWS, latent_size), (len(inputs), DRAWS, latent_size))
    feeds = {"inputs": inputs, "eps": np.ascontiguousarray(eps)}
    if labels is not None:
        feeds["labels"] = labels
    session = ort.InferenceSession(str(staging / "score.onnx"), providers=["CPUExecutionProvider"])
    bounds = bounds_from_terms(*session.run(None, feeds), analytic_kl=prior == "standard_normal")
    path = staging / "calibration.npz"
    how = CalibratedStatistic(n=len(inputs), draws=DRAWS, seed=SEED)
    np.savez(
        path,
        elbo=np.sort(surprise(bounds, "elbo")),
        importance_bound=np.sort(surprise(bounds, "importance_bound")),
    )
    return CalibrationSpec(
        file=path.name, sha256=sha256_of(path), statistics={"elbo": how, "importance_bound": how}
    )


def _self_test(staging: Path, graphs: dict[GraphName, GraphSpec]) -> FileSpec:
    sizes = {"rows": 2, "draws": 3}
    example: dict[str, NDArray[Any]] = {}
    for name, graph in graphs.items():
        session = ort.InferenceSession(str(staging / graph.file), providers=["CPUExecutionProvider"])
        feeds = {
            tensor.name: np.full(
                [sizes[axis] if isinstance(axis, str) else axis for axis in tensor.shape], 0.75, "f4"
            )
            for tensor in graph.inputs
        }
        outputs = session.run(None, feeds)
        example |= {f"{name}.inputs.{key}": value for key, value in feeds.items()}
        example |= {
            f"{name}.outputs.{spec.name}": value for spec, value in zip(graph.outputs, outputs, strict=True)
        }
    path = staging / "self_test.npz"
    np.savez(path, allow_pickle=False, **example)
    return FileSpec(file=path.name, sha256=sha256_of(path))
