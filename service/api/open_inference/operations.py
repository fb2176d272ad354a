"""What models of this protocol compute: the operations of `/v1`, as functions of tensors.

A model of the protocol is one operation of a published version; its tensors have the names of the keys of
`/v1`. Shapes: B rows, D latent; items as the manifest says.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal, NamedTuple

from numpy.typing import NDArray
from pydantic import Field

from service.api.answer import NPY
from service.api.open_inference.tensors import Array, TensorMetadata
from service.api.operations.discriminate import gives_ratios, judgements
from service.api.operations.options import Body, Count, NoOptions
from service.api.operations.sample import SampleRequest, check_count, settled, told_of
from service.api.operations.score import ScoreOptions, scored_as
from service.errors import Unfit
from service.format.manifest import Manifest
from service.media import codecs
from service.numerics import noise
from service.numerics.noise import Floats
from service.observe.timing import Timing
from service.runtime.filtered_sampling import joined
from service.runtime.model import LoadedModel
from service.settings import Settings

Tensors = tuple[TensorMetadata, ...]


class Task(NamedTuple):
    """One request: the arrays that came, which fit the operation's inputs, and its parameters."""

    loaded: LoadedModel
    arrays: Mapping[str, Array]
    parameters: Any
    settings: Settings
    timing: Timing


class Outcome(NamedTuple):
    """The arrays that were made by name, and what is told beside them; a null of `/v1` is left out."""

    arrays: Mapping[str, Array]
    told: Mapping[str, Any] = MappingProxyType({})
    anomalies: int = 0
    p_values: Sequence[float] = ()


@dataclass(frozen=True, slots=True, eq=False)
class InferenceOperation:
    """An operation: the parameters it has, and what a version's tensors are."""

    name: str
    parameters: type[Body]
    inputs: Callable[[Manifest], Tensors]
    outputs: Callable[[Manifest], Tensors]
    infer: Callable[[Task], Awaitable[Outcome]]


class SampleParameters(Body):
    """How to draw; as in `/v1`, where each is described."""

    temperature: Annotated[float, Field(ge=0, le=10)] = 1.0
    output: Literal["mean", "draw"] = "mean"
    method: Literal["direct", "rejection", "resample", "metropolis"] = "direct"
    budget: Count | None = None


async def sample(task: Task) -> Outcome:
    """The samples (B, *item) that rows of seed and index name, each what it is in `/v1`."""
    seeds, indices = task.arrays["seed"], task.arrays["index"]
    run = noise.only_run(seeds, indices)  # nearly always
    ends = ((seeds[0], seeds[0]), (indices[0], indices[-1])) if run else map(_ends, (seeds, indices))
    for name, (lowest, highest) in zip(("seed", "index"), ends, strict=True):
        if lowest < 0 or highest > noise.MAX_SEED:
            raise Unfit(f"`{name}` takes integers from 0 to 2^53 - 1")
    parameters: SampleParameters = task.parameters
    if parameters.method == "direct" and parameters.budget is None:  # nearly all: nothing is to be settled
        check_count(len(seeds), NPY, task.settings)
        how = (parameters.temperature, parameters.output, task.timing)
        if run is not None:
            return Outcome({"samples": await task.loaded.sample(*run, *how)})
        return Outcome({"samples": await task.loaded.sample_at(seeds, indices, *how)})
    asked = SampleRequest(count=len(seeds), **parameters.model_dump())
    request = settled(asked, task.loaded, NPY, task.settings)
    assert request.method != "direct"
    assert request.budget is not None
    chooser = task.loaded.filter(request.method)
    runs = noise.runs_of(seeds, indices)
    chosen = joined([await chooser.sample(*run, request.method, request.budget, task.timing) for run in runs])
    return Outcome({"samples": chosen.samples}, told_of(request, chosen))


def _ends(values: Array) -> tuple[int, int]:
    return values.min(), values.max()


async def encode(task: Task) -> Outcome:
    """Mean and log-variance (B, D) of each item's posterior; a GAN's has no variance."""
    mean, log_variance = await task.loaded.encode(_items(task), task.timing)
    return Outcome(_present({"mean": mean, "log_variance": log_variance}))


async def decode(task: Task) -> Outcome:
    """The items (B, *item) at the latents (B, D)."""
    latents = task.arrays["latents"]
    codecs.check_support(latents, "latent", "latents")
    return Outcome({"samples": await task.loaded.decode(latents, task.timing)})


async def reconstruct(task: Task) -> Outcome:
    """The items decoded from their own encodings, and those."""
    latents, _ = await task.loaded.encode(_items(task), task.timing)
    return Outcome({"reconstructions": await task.loaded.decode(latents, task.timing), "latents": latents})


async def score(task: Task) -> Outcome:
    """The scores of each item, its surprise, and where calibrated its p-value, each (B,); and a map of it."""
    items = _items(task)
    scored = await scored_as(task.parameters, task.loaded, items, task.settings, task.timing)
    arrays = _present(scored.tensors)
    if task.parameters.map:
        arrays["map"] = await task.loaded.surprise_map(items, task.timing)
    return Outcome(arrays, scored.told, scored.flagged, scored.p_values)


async def discriminate(task: Task) -> Outcome:
    """What the discriminator says of each item, each (B,)."""
    return Outcome(await judgements(task.loaded, _items(task), task.timing))


def _items(task: Task) -> Floats:
    items, manifest = task.arrays["inputs"], task.loaded.manifest
    codecs.check_support(items, manifest.support, "inputs", manifest.columns)
    return items


def _present(arrays: Mapping[str, NDArray[Any] | None]) -> dict[str, Array]:
    return {name: array for name, array in arrays.items() if array is not None}


def _addresses(_: Manifest) -> Tensors:
    return TensorMetadata("seed", "INT64"), TensorMetadata("index", "INT64")


def _inputs(manifest: Manifest) -> Tensors:
    return (TensorMetadata("inputs", "FP32", manifest.item_shape),)


def _latents(manifest: Manifest) -> Tensors:
    return (TensorMetadata("latents", "FP32", (manifest.latent_size,)),)


def _samples(manifest: Manifest) -> Tensors:
    return (TensorMetadata("samples", "FP32", manifest.item_shape),)


def _posterior(manifest: Manifest) -> Tensors:
    names = [tensor.name for tensor in manifest.graphs["encode"].outputs]
    return tuple(TensorMetadata(name, "FP32", (manifest.latent_size,)) for name in names)


def _reconstructions(manifest: Manifest) -> Tensors:
    return (TensorMetadata("reconstructions", "FP32", manifest.item_shape), *_latents(manifest))


def _scores(manifest: Manifest) -> Tensors:
    names: list[str] = []
    if "score" in manifest.graphs:
        names += ["elbo", "standard_error", "expected_log_likelihood", "kl", "importance_bound"]
        names += ["bits_per_dimension"] if manifest.discrete else []
    names += [*manifest.statistics, "surprise"]
    tensors = [TensorMetadata(name, "FP64") for name in names]
    if manifest.calibration is not None:
        tensors += [TensorMetadata("p_value", "FP64"), TensorMetadata("anomaly", "BOOL")]
    if "map" in manifest.graphs:
        tensors.append(TensorMetadata("map", "FP32", manifest.item_shape))
    return tuple(tensors)


def _judgements(manifest: Manifest) -> Tensors:
    names = ["logit", "probability", *(["log_density_ratio"] if gives_ratios(manifest) else [])]
    return tuple(TensorMetadata(name, "FP64") for name in names)


OPERATIONS: Final = {
    operation.name: operation
    for operation in (
        InferenceOperation("sample", SampleParameters, _addresses, _samples, sample),
        InferenceOperation("decode", NoOptions, _latents, _samples, decode),
        InferenceOperation("encode", NoOptions, _inputs, _posterior, encode),
        InferenceOperation("reconstruct", NoOptions, _inputs, _reconstructions, reconstruct),
        InferenceOperation("score", ScoreOptions, _inputs, _scores, score),
        InferenceOperation("discriminate", NoOptions, _inputs, _judgements, discriminate),
    )
}
"""By name. A path between two points is no function of rows: `interpolate` is `/v1`'s alone."""
