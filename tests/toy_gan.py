"""A tiny published GAN whose density ratio is known: items of two numbers, two latents.

Its generator doubles a latent and adds 1, so p_G = N(1, 4 I); the data are p = N(MEAN, DEVIATION^2 I). Its
discriminator's logit is log p(x) / p_G(x) exactly, whose largest value is known too. Its graphs are written
node by node, so the service is tested against numbers that neither PyTorch nor the exporter made.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import helper
from scipy import stats

from service.format.columns import Column
from service.format.specs import (
    CalibratedStatistic,
    CalibrationSpec,
    DiscriminatorSpec,
    GraphName,
    GraphSpec,
    LogitsSpec,
    MixturePriorSpec,
    Objective,
    ScoreDefaults,
)
from service.format.statistics import Distance
from service.format.versions import sha256_of, stage
from tests.handmade import CALIBRATION_ITEMS, Shape, publish_graphs, write_graph

Floats = NDArray[np.float32]

SIZE, REAL_LOGITS, ALPHA = 2, 4_096, 0.05
SLOPE, SHIFT = 2.0, 1.0
MEAN, DEVIATION = np.array([1.4, 0.6]), 1.2
ENCODER_SLOPE, FEATURE_WEIGHT = 0.45, 0.5
STATISTICS: tuple[Distance, ...] = ("residual", "feature_distance", "f_anogan")
VIEW = ((-7.0, 9.0), (-7.0, 9.0))

_SQUARE = 0.5 / SLOPE**2 - 0.5 / DEVIATION**2
_LINEAR = MEAN / DEVIATION**2 - SHIFT / SLOPE**2
_CONSTANT = float(
    (np.log(SLOPE / DEVIATION) + 0.5 * SHIFT**2 / SLOPE**2 - 0.5 * MEAN**2 / DEVIATION**2).sum()
)
LARGEST_LOGIT = _CONSTANT - float((_LINEAR**2).sum()) / (4 * _SQUARE)


def log_ratio(items: NDArray[Any]) -> NDArray[np.float64]:
    """log p(x) / p_G(x) in nats of items (..., 2)."""
    real = stats.norm.logpdf(items, MEAN, DEVIATION)
    ratio: NDArray[np.float64] = (real - stats.norm.logpdf(items, SHIFT, SLOPE)).sum(axis=-1)
    return ratio


def real_items(count: int, seed: int = 0) -> Floats:
    """Items of the data, (count, 2)."""
    return np.random.default_rng(seed).normal(MEAN, DEVIATION, (count, SIZE)).astype(np.float32)


def distances(items: NDArray[Any]) -> NDArray[np.float64]:
    """The statistics (B, 3) of items (B, 2)."""
    x = items.astype(np.float64)
    again = SLOPE * ENCODER_SLOPE * (x - SHIFT) + SHIFT
    residual, feature = (x - again) ** 2, (np.tanh(x) - np.tanh(again)) ** 2
    both = residual + FEATURE_WEIGHT * feature
    return np.stack([part.mean(axis=1) for part in (residual, feature, both)], axis=1)


def publish_gan(
    models: Path,
    name: str = "toy-gan",
    *,
    objective: Objective = "non-saturating",
    packing: int = 1,
    mixture: bool = False,
    view: tuple[tuple[float, float], tuple[float, float]] | None = VIEW,
    columns: tuple[Column, ...] = (),
) -> Path:
    """Publishes the toy.

    Args:
        models: The folder of models.
        name: The model's name.
        objective: What the manifest says that its discriminator was trained for.
        packing: How many items the manifest says it looks at together; with a critic, or with more than
            one, it has no graph `generate_scored`.
        mixture: Has a mixture as its prior; its logits are then no ratio any more.
        view: What a picture of its density shows.
        columns: The columns of the table that its items are rows of.
    """
    staging = stage(models, name)
    scored = DiscriminatorSpec(objective=objective, packing=packing).flaw is None
    graphs = _write_graphs(staging, scored=scored)
    logits = _write_logits(staging) if scored else None
    return publish_graphs(
        staging,
        name,
        graphs,
        family="gan",
        description="A toy with a known density ratio.",
        item_shape=(SIZE,),
        columns=columns,
        support="real",
        value_range=None,
        latent_size=SIZE,
        prior=_write_prior(staging) if mixture else "standard_normal",
        likelihood=None,
        statistics=STATISTICS,
        discriminator=DiscriminatorSpec(objective=objective, packing=packing, logits=logits),
        view=view,
        calibration=_write_calibration(staging),
        defaults=ScoreDefaults(statistic="f_anogan", alpha=ALPHA),
    )


def _write_graphs(staging: Path, *, scored: bool) -> dict[GraphName, GraphSpec]:
    items: dict[str, Shape] = {"inputs": ("rows", SIZE)}
    latents: dict[str, Shape] = {"latents": ("rows", SIZE)}
    samples: dict[str, Shape] = {"samples": ("rows", SIZE)}
    logit: dict[str, Shape] = {"logit": ("rows",)}
    decode = _generator_nodes("latents", "samples")
    tensors: dict[GraphName, tuple[list[Any], dict[str, Shape], dict[str, Shape]]] = {
        "encode": (_encoder_nodes("mean"), items, {"mean": ("rows", SIZE)}),
        "decode": (decode, latents, samples),
        "statistics": (_distance_nodes(), items, {"statistics": ("rows", len(STATISTICS))}),
        "discriminate": (_logit_nodes("inputs"), items, logit),
    }
    if scored:
        tensors["generate_scored"] = ([*decode, *_logit_nodes("samples")], latents, samples | logit)
    return {
        name: write_graph(staging, name, nodes, _constants(), inputs, outputs)
        for name, (nodes, inputs, outputs) in tensors.items()
    }


def _generator_nodes(latents: str, output: str) -> list[Any]:
    return [
        helper.make_node("Mul", [latents, "slope"], [f"{output}_scaled"]),
        helper.make_node("Add", [f"{output}_scaled", "shift"], [output]),
    ]


def _encoder_nodes(output: str) -> list[Any]:
    return [
        helper.make_node("Sub", ["inputs", "shift"], ["centred"]),
        helper.make_node("Mul", ["centred", "encoder_slope"], [output]),
    ]


def _logit_nodes(items: str) -> list[Any]:
    return [
        helper.make_node("Mul", [items, items], ["squares"]),
        helper.make_node("Mul", ["squares", "square"], ["bent"]),
        helper.make_node("Mul", [items, "linear"], ["tilted"]),
        helper.make_node("Add", ["bent", "tilted"], ["parts"]),
        helper.make_node("MatMul", ["parts", "ones"], ["total"]),
        helper.make_node("Add", ["total", "constant"], ["column"]),
        helper.make_node("Squeeze", ["column", "axis_1"], ["logit"]),
    ]


def _distance_nodes() -> list[Any]:
    def mean_square(left: str, right: str, output: str) -> list[Any]:
        return [
            helper.make_node("Sub", [left, right], [f"{output}_gap"]),
            helper.make_node("Mul", [f"{output}_gap", f"{output}_gap"], [f"{output}_square"]),
            helper.make_node("MatMul", [f"{output}_square", "halves"], [output]),
        ]

    return [
        *_encoder_nodes("codes"),
        *_generator_nodes("codes", "again"),
        helper.make_node("Tanh", ["inputs"], ["features"]),
        helper.make_node("Tanh", ["again"], ["features_again"]),
        *mean_square("inputs", "again", "residual"),
        *mean_square("features", "features_again", "feature_distance"),
        helper.make_node("Mul", ["feature_distance", "feature_weight"], ["weighted"]),
        helper.make_node("Add", ["residual", "weighted"], ["f_anogan"]),
        helper.make_node("Concat", list(STATISTICS), ["statistics"], axis=1),
    ]


def _constants() -> dict[str, Any]:
    return {
        "slope": np.float32(SLOPE),
        "shift": np.float32(SHIFT),
        "encoder_slope": np.float32(ENCODER_SLOPE),
        "square": np.float32(_SQUARE),
        "linear": _LINEAR.astype(np.float32),
        "constant": np.float32(_CONSTANT),
        "ones": np.ones((SIZE, 1), np.float32),
        "halves": np.full((SIZE, 1), 1 / SIZE, np.float32),
        "feature_weight": np.float32(FEATURE_WEIGHT),
        "axis_1": np.array([1]),
    }


def _write_prior(staging: Path) -> MixturePriorSpec:
    path = staging / "prior.npz"
    means: Floats = np.array([[-1.0, 0.5], [1.0, -0.5]], np.float32)
    np.savez(path, weights=np.array([0.4, 0.6]), means=means, log_variances=np.zeros_like(means))
    return MixturePriorSpec(file=path.name, sha256=sha256_of(path), components=len(means))


def _write_logits(staging: Path) -> LogitsSpec:
    path = staging / "logits.npz"
    np.savez(path, real=log_ratio(real_items(REAL_LOGITS, seed=3)).astype(np.float32))
    return LogitsSpec(file=path.name, sha256=sha256_of(path), n=REAL_LOGITS, largest=LARGEST_LOGIT)


def _write_calibration(staging: Path) -> CalibrationSpec:
    session = ort.InferenceSession(str(staging / "statistics.onnx"), providers=["CPUExecutionProvider"])
    (values,) = session.run(None, {"inputs": real_items(CALIBRATION_ITEMS, seed=1)})
    path = staging / "calibration.npz"
    names: tuple[str, ...] = STATISTICS
    arrays: dict[str, Any] = dict(zip(names, np.sort(values.astype(np.float64), axis=0).T, strict=True))
    np.savez(path, **arrays)
    how = CalibratedStatistic(n=CALIBRATION_ITEMS)
    return CalibrationSpec(file=path.name, sha256=sha256_of(path), statistics=dict.fromkeys(STATISTICS, how))
