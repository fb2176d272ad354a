"""A tiny published VAE whose exact evidence can be computed: 2 x 2 binary items, two latents.

Its graphs are written node by node, so the service is tested against numbers that neither PyTorch nor
the exporter made.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from service.calibration import bounds_from_terms, surprise
from service.contract import (
    CalibratedStatistic,
    CalibrationSpec,
    FileSpec,
    GraphSpec,
    Manifest,
    Provenance,
    ScoreDefaults,
    TensorSpec,
    publish,
    sha256_of,
    stage,
)
from service.noise import scoring_noise

LATENT, PIXELS, ITEM = 2, 4, (1, 2, 2)
DRAWS, SEED, CALIBRATION_ITEMS = 8, 5, 199

Floats = NDArray[np.float32]
Shape = tuple[int | str, ...]

_random = np.random.default_rng(2)
DECODER: Floats = _random.normal(size=(LATENT, PIXELS)).astype(np.float32) * np.float32(1.5)
ENCODER: Floats = _random.normal(size=(PIXELS, LATENT)).astype(np.float32) * np.float32(0.5)
LOG_VARIANCE = np.float32(-0.3)

_ROWS_ITEM: Shape = ("rows", *ITEM)
_ROWS_LATENT: Shape = ("rows", LATENT)
_TERMS: Shape = ("rows", "draws")


def exact_log_evidence(item: NDArray[Any]) -> float:
    """log p(x) of one item in nats, by quadrature over the two latents."""
    axis = np.linspace(-8, 8, 801)
    grid = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, LATENT)
    logits = grid @ DECODER.astype(np.float64)
    likelihood = (item.reshape(-1) * logits - np.logaddexp(0, logits)).sum(axis=1)
    prior = -0.5 * (grid**2).sum(axis=1) - np.log(2 * np.pi)
    joint = likelihood + prior
    return float(np.log(np.exp(joint - joint.max()).sum() * (axis[1] - axis[0]) ** 2) + joint.max())


def items(count: int, seed: int = 0) -> Floats:
    """Items drawn from the model itself, (count, 1, 2, 2) of zeros and ones."""
    random = np.random.default_rng(seed)
    logits = random.normal(size=(count, LATENT)) @ DECODER
    return (random.random(logits.shape) < 1 / (1 + np.exp(-logits))).astype(np.float32).reshape(count, *ITEM)


def publish_toy(models: Path, name: str = "toy-vae", *, poisoned: bool = False) -> Path:
    """Publishes the toy; `poisoned` decodes latents above 100 to NaN, as a broken model might."""
    staging = stage(models, name)
    graphs = {
        "encode": _graph(staging, "encode", _encode_nodes(), {"inputs": _ROWS_ITEM}, _encode_outputs()),
        "decode": _graph(
            staging,
            "decode",
            _decode_nodes(poisoned=poisoned),
            {"latents": _ROWS_LATENT},
            {"samples": _ROWS_ITEM},
        ),
        "draw": _graph(
            staging,
            "draw",
            _draw_nodes(),
            {"latents": _ROWS_LATENT, "uniforms": _ROWS_ITEM},
            {"samples": _ROWS_ITEM},
        ),
        "score": _graph(
            staging,
            "score",
            _score_nodes(),
            {"inputs": _ROWS_ITEM, "eps": ("rows", "draws", LATENT)},
            {"log_likelihood": _TERMS, "log_prior": _TERMS, "log_posterior": _TERMS, "kl": ("rows",)},
        ),
    }
    manifest = Manifest(
        name=name,
        version=1,
        family="vae",
        description="A toy with exact evidence.",
        item_shape=ITEM,
        support="binary",
        value_range=(0.0, 1.0),
        latent_size=LATENT,
        prior="standard_normal",
        likelihood="bernoulli",
        noise="philox4x64-boxmuller-1",
        graphs=graphs,
        calibration=_calibration(staging),
        defaults=ScoreDefaults(statistic="elbo", draws=DRAWS, seed=SEED, alpha=0.05),
        metrics={},
        provenance=Provenance(recipe={}, commit="none", seed=2, libraries={}),
        parity={},
        self_test=_self_test(staging, graphs),
    )
    return publish(staging, manifest)


def _encode_outputs() -> dict[str, Shape]:
    return {"mean": _ROWS_LATENT, "log_variance": _ROWS_LATENT}


def _encode_nodes() -> list[Any]:
    return [
        helper.make_node("Reshape", ["inputs", "flat"], ["x"]),
        helper.make_node("MatMul", ["x", "encoder"], ["mean"]),
        helper.make_node("Mul", ["mean", "zero"], ["nothing"]),
        helper.make_node("Add", ["nothing", "variance"], ["log_variance"]),
    ]


def _decode_nodes(*, poisoned: bool = False) -> list[Any]:
    nodes = [
        helper.make_node("MatMul", ["latents", "decoder"], ["logits"]),
        helper.make_node("Sigmoid", ["logits"], ["p"]),
        helper.make_node("Reshape", ["p", "item"], ["clean" if poisoned else "samples"]),
    ]
    if poisoned:  # sqrt(100 - z_0) is NaN above 100; times zero it vanishes below
        nodes += [
            helper.make_node("Gather", ["latents", "first"], ["z0"], axis=1),
            helper.make_node("Sub", ["hundred", "z0"], ["room"]),
            helper.make_node("Sqrt", ["room"], ["root"]),
            helper.make_node("Mul", ["root", "zero"], ["poison"]),
            helper.make_node("Reshape", ["poison", "rows_only"], ["poison_rows"]),
            helper.make_node("Add", ["clean", "poison_rows"], ["samples"]),
        ]
    return nodes


def _draw_nodes() -> list[Any]:
    return [
        helper.make_node("MatMul", ["latents", "decoder"], ["logits"]),
        helper.make_node("Sigmoid", ["logits"], ["p"]),
        helper.make_node("Reshape", ["p", "item"], ["means"]),
        helper.make_node("Less", ["uniforms", "means"], ["drawn"]),
        helper.make_node("Cast", ["drawn"], ["samples"], to=TensorProto.FLOAT),
    ]


def _score_nodes() -> list[Any]:
    def gaussian(values: str, scale_square: str, constant: str, output: str) -> list[Any]:
        return [
            helper.make_node("Mul", [values, values], [f"{output}_square"]),
            helper.make_node("Div", [f"{output}_square", scale_square], [f"{output}_scaled"]),
            helper.make_node("Add", [f"{output}_scaled", constant], [f"{output}_sum"]),
            helper.make_node("ReduceSum", [f"{output}_sum", "last"], [f"{output}_total"], keepdims=0),
            helper.make_node("Mul", [f"{output}_total", "minus_half"], [output]),
        ]

    return [
        helper.make_node("Reshape", ["inputs", "flat"], ["x"]),
        helper.make_node("MatMul", ["x", "encoder"], ["mean"]),
        helper.make_node("Unsqueeze", ["mean", "middle"], ["mean_draws"]),
        helper.make_node("Unsqueeze", ["x", "middle"], ["x_draws"]),
        helper.make_node("Mul", ["eps", "scale"], ["offset"]),
        helper.make_node("Add", ["mean_draws", "offset"], ["z"]),
        helper.make_node("MatMul", ["z", "decoder"], ["logits"]),
        helper.make_node("Mul", ["x_draws", "logits"], ["chosen"]),
        helper.make_node("Softplus", ["logits"], ["norm"]),
        helper.make_node("Sub", ["chosen", "norm"], ["pixels"]),
        helper.make_node("ReduceSum", ["pixels", "last"], ["log_likelihood"], keepdims=0),
        *gaussian("z", "one", "log_two_pi", "log_prior"),
        *gaussian("eps", "one", "log_two_pi_variance", "log_posterior"),
        helper.make_node("Mul", ["mean", "mean"], ["mean_square"]),
        helper.make_node("Add", ["mean_square", "kl_constant"], ["kl_sum"]),
        helper.make_node("ReduceSum", ["kl_sum", "minus_one"], ["kl_total"], keepdims=0),
        helper.make_node("Mul", ["kl_total", "half"], ["kl"]),
    ]


def _constants() -> dict[str, Any]:
    log_two_pi = np.log(2 * np.pi)
    return {
        "encoder": ENCODER,
        "decoder": DECODER,
        "flat": np.array([-1, PIXELS]),
        "item": np.array([-1, *ITEM]),
        "rows_only": np.array([-1, 1, 1, 1]),
        "first": np.array([0]),
        "middle": np.array([1]),
        "last": np.array([2]),
        "minus_one": np.array([1]),
        "zero": np.float32(0),
        "one": np.float32(1),
        "half": np.float32(0.5),
        "minus_half": np.float32(-0.5),
        "hundred": np.float32(100),
        "variance": LOG_VARIANCE,
        "scale": np.float32(np.exp(0.5 * LOG_VARIANCE)),
        "log_two_pi": np.float32(log_two_pi),
        "log_two_pi_variance": np.float32(log_two_pi + LOG_VARIANCE),
        "kl_constant": np.float32(np.exp(LOG_VARIANCE) - 1 - LOG_VARIANCE),
    }


def _graph(
    staging: Path, name: str, nodes: list[Any], inputs: dict[str, Shape], outputs: dict[str, Shape]
) -> GraphSpec:
    used = {given for node in nodes for given in node.input}
    constants = [
        numpy_helper.from_array(np.asarray(value), key) for key, value in _constants().items() if key in used
    ]

    def infos(tensors: dict[str, Shape]) -> list[Any]:
        return [
            helper.make_tensor_value_info(key, TensorProto.FLOAT, shape) for key, shape in tensors.items()
        ]

    graph = helper.make_graph(nodes, name, infos(inputs), infos(outputs), constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    path = staging / f"{name}.onnx"
    onnx.save(model, path)
    return GraphSpec(file=path.name, sha256=sha256_of(path), inputs=_specs(inputs), outputs=_specs(outputs))


def _specs(tensors: dict[str, Shape]) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(name=name, shape=shape) for name, shape in tensors.items())


def _calibration(staging: Path) -> CalibrationSpec:
    inputs = items(CALIBRATION_ITEMS, seed=1)
    eps = np.broadcast_to(scoring_noise(SEED, DRAWS, LATENT), (len(inputs), DRAWS, LATENT))
    feeds = {"inputs": inputs, "eps": np.ascontiguousarray(eps)}
    session = ort.InferenceSession(str(staging / "score.onnx"), providers=["CPUExecutionProvider"])
    bounds = bounds_from_terms(*session.run(None, feeds))
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


def _self_test(staging: Path, graphs: dict[str, GraphSpec]) -> FileSpec:
    sizes = {"rows": 2, "draws": 3}
    example: dict[str, NDArray[Any]] = {}
    for name, graph in graphs.items():
        session = ort.InferenceSession(str(staging / graph.file), providers=["CPUExecutionProvider"])
        feeds = {
            tensor.name: np.ones(
                [sizes[axis] if isinstance(axis, str) else axis for axis in tensor.shape], "f4"
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
