"""The signature of each operation: what the protocol calls a model takes and returns, as tensors.

A model of the protocol is one operation of a published version; its tensors have the names of the JSON fields
of `/v1`. Shapes: B rows, D latent; items as the manifest says.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final, NamedTuple, TypeAlias

from service.api.open_inference.tensors import TensorMetadata
from service.api.operations.call import Call, Result
from service.api.operations.code import decode, encode, reconstruct
from service.api.operations.discriminate import discriminate, gives_ratios
from service.api.operations.options import Body, RowLabelOptions
from service.api.operations.sample import SampleOptions, sample_at
from service.api.operations.score import ScoreOptions, score
from service.format.manifest import Manifest
from service.numerics.calibration import Bounds

Tensors: TypeAlias = tuple[TensorMetadata, ...]


class Signature(NamedTuple):
    """An operation, its parameters, and the tensors that it takes and returns for a manifest."""

    compute: Callable[[Call[Any]], Awaitable[Result]]
    parameters: type[Body]
    inputs: Callable[[Manifest], Tensors]
    outputs: Callable[[Manifest], Tensors]


def _sample_numbers(_: Manifest) -> Tensors:
    return TensorMetadata("seed", "INT64"), TensorMetadata("index", "INT64")


def _items(name: str) -> Callable[[Manifest], Tensors]:
    return lambda manifest: (TensorMetadata(name, "FP32", manifest.item_shape),)


def _latents(manifest: Manifest) -> Tensors:
    return (TensorMetadata("latents", "FP32", (manifest.latent_size,)),)


def _posterior(manifest: Manifest) -> Tensors:
    names = [tensor.name for tensor in manifest.graphs["encode"].outputs]
    return tuple(TensorMetadata(name, "FP32", (manifest.latent_size,)) for name in names)


def _reconstructions(manifest: Manifest) -> Tensors:
    return _items("reconstructions")(manifest) + _latents(manifest)


def _scores(manifest: Manifest) -> Tensors:
    names: list[str] = []
    if "score" in manifest.graphs:
        names += Bounds._fields
        names += ["bits_per_dimension"] if manifest.discrete else []
    names += [*manifest.statistics, "surprise"]
    tensors = [TensorMetadata(name, "FP64") for name in names]
    if manifest.calibration is not None:
        tensors += [TensorMetadata("p_value", "FP64"), TensorMetadata("anomaly", "BOOL")]
    if "columns" in manifest.graphs:
        tensors.append(TensorMetadata("columns", "FP64", (len(manifest.columns),)))
    if "map" in manifest.graphs:
        tensors.append(TensorMetadata("map", "FP32", manifest.item_shape))
    return tuple(tensors)


def _discriminator_scores(manifest: Manifest) -> Tensors:
    names = ["logit", "probability", *(["log_density_ratio"] if gives_ratios(manifest) else [])]
    return tuple(TensorMetadata(name, "FP64") for name in names)


SIGNATURES: Final = {
    "sample": Signature(sample_at, SampleOptions, _sample_numbers, _items("samples")),
    "decode": Signature(decode, RowLabelOptions, _latents, _items("samples")),
    "encode": Signature(encode, RowLabelOptions, _items("inputs"), _posterior),
    "reconstruct": Signature(reconstruct, RowLabelOptions, _items("inputs"), _reconstructions),
    "score": Signature(score, ScoreOptions, _items("inputs"), _scores),
    "discriminate": Signature(discriminate, RowLabelOptions, _items("inputs"), _discriminator_scores),
}
"""Signatures by operation. `interpolate` has none: a path between two points is not a function of rows;
nor has `read`, which computes nothing."""
