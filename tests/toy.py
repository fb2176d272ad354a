"""A tiny published VAE whose exact evidence can be computed: 2 x 2 binary items, two latents.

Its graphs are written node by node, so the service is tested against numbers that neither PyTorch nor
the exporter made. Its prior is a standard normal, or the mixture below.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper
from scipy.special import logsumexp

from service.format.manifest import Support
from service.format.specs import GraphName, MixturePriorSpec
from service.format.versions import sha256_of, stage
from tests.handmade import (
    CALIBRATION_ITEMS,
    gaussian_kl_nodes,
    gaussian_nodes,
    publish_version,
    shared_constants,
    write_vae_graphs,
)

LATENT, PIXELS, ITEM = 2, 4, (1, 2, 2)

Floats = NDArray[np.float32]

_random = np.random.default_rng(2)
DECODER: Floats = _random.normal(size=(LATENT, PIXELS)).astype(np.float32) * np.float32(1.5)
ENCODER: Floats = _random.normal(size=(PIXELS, LATENT)).astype(np.float32) * np.float32(0.5)
LOG_VARIANCE = np.float32(-0.3)

WEIGHTS = np.array([0.2, 0.5, 0.3])
MEANS: Floats = np.array([[-1.5, 0.5], [1.0, 1.0], [0.0, -2.0]], np.float32)
LOG_VARIANCES: Floats = np.array([[-1.0, 0.3], [-0.2, -0.7], [0.2, -1.5]], np.float32)


def log_prior(latents: NDArray[Any], *, mixture: bool = False) -> NDArray[np.float64]:
    """log p(z) in nats of latents (..., 2), in float64."""
    means, log_variances = (MEANS, LOG_VARIANCES) if mixture else (np.zeros((1, LATENT)),) * 2
    weights = WEIGHTS if mixture else np.ones(1)
    squares = (latents[..., None, :].astype(np.float64) - means) ** 2 / np.exp(log_variances.astype(float))
    parts = -0.5 * (squares + log_variances + np.log(2 * np.pi)).sum(axis=-1)
    total: NDArray[np.float64] = logsumexp(parts, axis=-1, b=weights)
    return total


def exact_log_evidence(item: NDArray[Any], *, mixture: bool = False) -> float:
    """log p(x) of one item in nats, by quadrature over the two latents."""
    logits, log_weights = _grid(mixture)
    return float(logsumexp(logits @ item.reshape(-1).astype(np.float64) + log_weights))


@cache
def _grid(mixture: bool) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Logits (G, 4) at the latents of a grid, and log p(z) + log p(0 | z) + log of a cell's area (G,)."""
    axis = np.linspace(-8, 8, 801)
    grid = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, LATENT)
    logits = grid @ DECODER.astype(np.float64)
    log_weights = log_prior(grid, mixture=mixture) - np.logaddexp(0, logits).sum(axis=1)
    return logits, log_weights + 2 * np.log(axis[1] - axis[0])


def items(count: int, seed: int = 0) -> Floats:
    """Items drawn from the model itself, (count, 1, 2, 2) of zeros and ones."""
    random = np.random.default_rng(seed)
    logits = random.normal(size=(count, LATENT)) @ DECODER
    return (random.random(logits.shape) < 1 / (1 + np.exp(-logits))).astype(np.float32).reshape(count, *ITEM)


def publish_toy(
    models: Path,
    name: str = "toy-vae",
    *,
    poisoned: bool = False,
    mixture: bool = False,
    support: Support = "binary",
) -> Path:
    """Publishes the toy.

    Args:
        models: The folder of models.
        name: The model's name.
        poisoned: Decodes latents above 100 to NaN, as a broken model might.
        mixture: Has the mixture above as its prior.
        support: What the manifest says that items may hold; the graphs are the same.
    """
    staging = stage(models, name)
    nodes = toy_nodes(poisoned=poisoned, mixture=mixture)
    return publish_version(
        staging,
        name,
        write_vae_graphs(staging, nodes, toy_constants(), ITEM, LATENT),
        items(CALIBRATION_ITEMS, seed=1),
        description="A toy with exact evidence.",
        item_shape=ITEM,
        support=support,
        value_range=None if support == "real" else (0.0, 1.0),
        latent_size=LATENT,
        prior=_write_prior(staging) if mixture else "standard_normal",
        likelihood="bernoulli",
    )


def toy_nodes(*, poisoned: bool = False, mixture: bool = False) -> dict[GraphName, list[Any]]:
    """The nodes of each graph."""
    return {
        "encode": _encode_nodes(),
        "decode": _decode_nodes(poisoned=poisoned),
        "draw": _draw_nodes(),
        "score": _score_nodes(mixture=mixture),
    }


def _write_prior(staging: Path) -> MixturePriorSpec:
    path = staging / "prior.npz"
    np.savez(path, weights=WEIGHTS, means=MEANS, log_variances=LOG_VARIANCES)
    return MixturePriorSpec(file=path.name, sha256=sha256_of(path), components=len(WEIGHTS))


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


def _score_nodes(*, mixture: bool) -> list[Any]:
    return [
        helper.make_node("Reshape", ["inputs", "flat"], ["x"]),
        helper.make_node("MatMul", ["x", "encoder"], ["mean"]),
        helper.make_node("Unsqueeze", ["mean", "axis_1"], ["mean_draws"]),
        helper.make_node("Unsqueeze", ["x", "axis_1"], ["x_draws"]),
        helper.make_node("Mul", ["eps", "scale"], ["offset"]),
        helper.make_node("Add", ["mean_draws", "offset"], ["z"]),
        helper.make_node("MatMul", ["z", "decoder"], ["logits"]),
        helper.make_node("Mul", ["x_draws", "logits"], ["chosen"]),
        helper.make_node("Softplus", ["logits"], ["norm"]),
        helper.make_node("Sub", ["chosen", "norm"], ["pixels"]),
        helper.make_node("ReduceSum", ["pixels", "axis_2"], ["log_likelihood"], keepdims=0),
        *gaussian_nodes("eps", "one", "log_two_pi_variance", "log_posterior"),
        *(
            _mixture_nodes()
            if mixture
            else [*gaussian_nodes("z", "one", "log_two_pi", "log_prior"), *gaussian_kl_nodes()]
        ),
    ]


def _mixture_nodes() -> list[Any]:
    """`log_prior` under the mixture, and `kl` as the mean of the draws."""
    return [
        helper.make_node("Unsqueeze", ["z", "axis_2"], ["z_components"]),
        helper.make_node("Sub", ["z_components", "prior_means"], ["distance"]),
        helper.make_node("Mul", ["distance", "distance"], ["distance_square"]),
        helper.make_node("Div", ["distance_square", "prior_variances"], ["distance_scaled"]),
        helper.make_node("Add", ["distance_scaled", "prior_log_two_pi_variances"], ["distance_sum"]),
        helper.make_node("ReduceSum", ["distance_sum", "axis_3"], ["distance_total"], keepdims=0),
        helper.make_node("Mul", ["distance_total", "minus_half"], ["log_components"]),
        helper.make_node("Add", ["log_components", "prior_log_weights"], ["log_joint"]),
        helper.make_node("ReduceLogSumExp", ["log_joint", "axis_2"], ["log_prior"], keepdims=0),
        helper.make_node("Sub", ["log_posterior", "log_prior"], ["log_ratio"]),
        helper.make_node("ReduceMean", ["log_ratio", "axis_1"], ["kl"], keepdims=0),
    ]


def toy_constants() -> dict[str, Any]:
    """The constants of these nodes."""
    return shared_constants(LOG_VARIANCE) | {
        "encoder": ENCODER,
        "decoder": DECODER,
        "flat": np.array([-1, PIXELS]),
        "item": np.array([-1, *ITEM]),
        "rows_only": np.array([-1, 1, 1, 1]),
        "first": np.array([0]),
        "hundred": np.float32(100),
        "prior_means": MEANS,
        "prior_variances": np.exp(LOG_VARIANCES),
        "prior_log_two_pi_variances": LOG_VARIANCES + np.float32(np.log(2 * np.pi)),
        "prior_log_weights": np.log(WEIGHTS).astype(np.float32),
    }
