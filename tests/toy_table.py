"""A tiny published VAE of a table with exact evidence: a height, a colour, and one latent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper
from scipy import stats
from scipy.special import logsumexp, softmax

from service.format.columns import Column
from service.format.specs import GraphName
from service.format.versions import stage
from tests.handmade import (
    CALIBRATION_ITEMS,
    gaussian_kl_nodes,
    gaussian_nodes,
    publish_version,
    shared_constants,
    write_vae_graphs,
)

COLUMNS = (Column(name="height"), Column(name="colour", categories=("red", "green", "blue")))
FEATURES, LATENT = 4, 1
FARTHEST = 1_000.0
"""The graphs clamp heights to this, as published graphs of tables do."""

Floats = NDArray[np.float32]

SLOPE, OFFSET, SCALE, LOG_VARIANCE = np.float32(3), np.float32(170), np.float32(2), np.float32(-0.5)
COLOURS: Floats = np.array([[1.5, 0.0, -1.0]], np.float32)
ENCODER: Floats = np.array([[0.05], [0.3], [0.0], [-0.3]], np.float32)


def decoded(latents: NDArray[Any]) -> NDArray[np.float64]:
    """The likelihood's means at latents (B, 1): the height, and the colours' probabilities, (B, 4)."""
    return np.concatenate([SLOPE * latents + OFFSET, softmax(latents @ COLOURS, axis=1)], axis=1)


def exact_log_evidence(item: NDArray[Any]) -> float:
    """log p(x) of one item in nats, by quadrature over the latent; the height counts by its density."""
    grid = np.linspace(-12, 12, 4001)
    means = decoded(grid[:, None])
    likelihood = stats.logistic.logpdf(item[0], means[:, 0], SCALE) + np.log(means[:, 1:]) @ item[1:]
    return float(logsumexp(likelihood + stats.norm.logpdf(grid)) + np.log(grid[1] - grid[0]))


def items(count: int, seed: int = 0) -> Floats:
    """Items drawn from the model itself, (count, 4)."""
    random = np.random.default_rng(seed)
    means = decoded(random.normal(size=(count, LATENT)))
    height = random.logistic(means[:, 0], SCALE)
    colour = (random.random((count, 1)) < means[:, 1:].cumsum(axis=1)).argmax(axis=1)
    return np.concatenate([height[:, None], np.eye(3)[colour]], axis=1).astype(np.float32)


def publish_table(models: Path, name: str = "toy-table", **height: Any) -> Path:
    """Publishes the table, its column `height` perhaps with a range and decimals."""
    staging = stage(models, name)
    nodes: dict[GraphName, list[Any]] = {
        "encode": _encode_nodes(),
        "decode": _decode_nodes(),
        "draw": _draw_nodes(),
        "score": _score_nodes(),
    }
    return publish_version(
        staging,
        name,
        write_vae_graphs(staging, nodes, _constants(), (FEATURES,), LATENT),
        items(CALIBRATION_ITEMS, seed=1),
        description="A table with exact evidence.",
        item_shape=(FEATURES,),
        support="real",
        value_range=None,
        columns=(COLUMNS[0].model_copy(update=height), COLUMNS[1]),
        left_out=("notes",),
        latent_size=LATENT,
        prior="standard_normal",
        likelihood="table",
    )


def _clamped_nodes() -> list[Any]:
    return [helper.make_node("Clip", ["inputs", "nearest", "farthest"], ["x"])]


def _mean_nodes() -> list[Any]:
    return [
        helper.make_node("MatMul", ["x", "encoder"], ["leaning"]),
        helper.make_node("Add", ["leaning", "encoder_offset"], ["mean"]),
    ]


def _encode_nodes() -> list[Any]:
    return [
        *_clamped_nodes(),
        *_mean_nodes(),
        helper.make_node("Mul", ["mean", "zero"], ["nothing"]),
        helper.make_node("Add", ["nothing", "variance"], ["log_variance"]),
    ]


def _parameter_nodes(latents: str) -> list[Any]:
    """`height` (..., 1) and the colours' `logits` (..., 3)."""
    return [
        helper.make_node("Mul", [latents, "slope"], ["rise"]),
        helper.make_node("Add", ["rise", "offset"], ["height"]),
        helper.make_node("MatMul", [latents, "colours"], ["logits"]),
    ]


def _decode_nodes() -> list[Any]:
    return [
        *_parameter_nodes("latents"),
        helper.make_node("Softmax", ["logits"], ["p"], axis=-1),
        helper.make_node("Concat", ["height", "p"], ["samples"], axis=1),
    ]


def _draw_nodes() -> list[Any]:
    """The height by the logistic's inverse distribution, the colour by the largest Gumbel."""
    return [
        *_parameter_nodes("latents"),
        helper.make_node("Split", ["uniforms", "widths"], ["u", "colour_u"], axis=1),
        helper.make_node("Log", ["u"], ["log_u"]),
        helper.make_node("Sub", ["one", "u"], ["rest"]),
        helper.make_node("Log", ["rest"], ["log_rest"]),
        helper.make_node("Sub", ["log_u", "log_rest"], ["logit"]),
        helper.make_node("Mul", ["logit", "width"], ["deviation"]),
        helper.make_node("Add", ["height", "deviation"], ["drawn_height"]),
        helper.make_node("Log", ["colour_u"], ["log_colour_u"]),
        helper.make_node("Neg", ["log_colour_u"], ["exponential"]),
        helper.make_node("Log", ["exponential"], ["log_exponential"]),
        helper.make_node("Sub", ["logits", "log_exponential"], ["gumbel"]),
        helper.make_node("ArgMax", ["gumbel"], ["chosen"], axis=1, keepdims=1),
        helper.make_node("Equal", ["chosen", "places"], ["is_chosen"]),
        helper.make_node("Cast", ["is_chosen"], ["drawn_colour"], to=TensorProto.FLOAT),
        helper.make_node("Concat", ["drawn_height", "drawn_colour"], ["samples"], axis=1),
    ]


def _score_nodes() -> list[Any]:
    return [
        *_clamped_nodes(),
        *_mean_nodes(),
        helper.make_node("Unsqueeze", ["mean", "axis_1"], ["mean_draws"]),
        helper.make_node("Mul", ["eps", "scale"], ["spread"]),
        helper.make_node("Add", ["mean_draws", "spread"], ["z"]),
        *_parameter_nodes("z"),
        helper.make_node("Unsqueeze", ["x", "axis_1"], ["x_draws"]),
        helper.make_node("Split", ["x_draws", "widths"], ["x_height", "x_colour"], axis=2),
        helper.make_node("Sub", ["height", "x_height"], ["below"]),
        helper.make_node("Div", ["below", "width"], ["minus_d"]),
        helper.make_node("Softplus", ["minus_d"], ["softplus"]),
        helper.make_node("Mul", ["softplus", "minus_two"], ["tail"]),
        helper.make_node("Add", ["minus_d", "tail"], ["unscaled"]),
        helper.make_node("Sub", ["unscaled", "log_width"], ["log_height"]),
        helper.make_node("LogSoftmax", ["logits"], ["log_p"], axis=-1),
        helper.make_node("Mul", ["log_p", "x_colour"], ["log_colour"]),
        helper.make_node("Concat", ["log_height", "log_colour"], ["log_parts"], axis=2),
        helper.make_node("ReduceSum", ["log_parts", "axis_2"], ["log_likelihood"], keepdims=0),
        *gaussian_nodes("z", "one", "log_two_pi", "log_prior"),
        *gaussian_nodes("eps", "one", "log_two_pi_variance", "log_posterior"),
        *gaussian_kl_nodes(),
    ]


def _constants() -> dict[str, Any]:
    return shared_constants(LOG_VARIANCE) | {
        "nearest": np.float32(-FARTHEST),
        "farthest": np.float32(FARTHEST),
        "encoder": ENCODER,
        "encoder_offset": -OFFSET * ENCODER[0],
        "slope": SLOPE,
        "offset": OFFSET,
        "colours": COLOURS,
        "width": SCALE,
        "log_width": np.float32(np.log(SCALE)),
        "minus_two": np.float32(-2),
        "widths": np.array([1, 3]),
        "places": np.arange(3),
    }
