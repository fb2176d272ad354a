"""Sampling: every sample kept, or chosen among proposals by the discriminator; large npy answers streamed."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import AsyncIterator
from typing import Annotated, Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from service.api.answer import CSV, JSON, NPY, PNG, Answer
from service.api.operations import sample
from service.api.operations.call import Call, Result
from service.api.operations.labels import labels_of_samples
from service.api.operations.options import Body, Count, Seed
from service.api.v1.encoding import ARRAYS_IN, arrays_answer, check_items
from service.api.v1.operation import ItemsOptions, ModelAnswer, Operation
from service.media import codecs
from service.numerics import noise
from service.runtime.model import LoadedModel
from service.settings import Settings

STREAM_ROWS: Final = 1_024
"""Larger npy answers are streamed, in pieces of this many samples or, with a budget, proposals."""
_CHOICE_HEADERS: Final = {
    "acceptance_rate": b"x-pushforward-acceptance-rate",
    "effective_sample_size": b"x-pushforward-effective-sample-size",
    "unfilled": b"x-pushforward-unfilled",
}
_DIRECT: Final = {"method": "direct", "budget": None, **dict.fromkeys(_CHOICE_HEADERS)}


class _SampleRange(Body):
    count: Count | None = None
    """Number of samples: those numbered offset, offset + 1, ... Null means one for each of
    `labels`, for a picture of a density the most that a picture has, and else 1."""
    seed: Seed | None = None
    """Seed of the noise. If null, a fresh one is drawn and answered."""
    offset: Annotated[int, Field(ge=0, lt=2**53)] = 0
    """The number of the first sample, from 0."""


class SampleRequest(ItemsOptions, sample.SampleOptions, _SampleRange):
    """A range of samples. Sample i of a seed depends on the version, seed, method, its class and i alone."""

    return_latents: bool = False
    """Also answer the samples' latents (JSON only)."""


class SampleAnswer(ModelAnswer):
    """Samples, and all that is needed to draw them again. The fields on the choice are null for `direct`."""

    seed: int
    """The seed of the noise."""
    offset: int
    """The number of the first sample."""
    method: Literal["direct", "rejection", "resample", "metropolis"]
    """The method, as in the request."""
    budget: int | None
    """Proposals per sample."""
    acceptance_rate: float | None
    """The share of all proposals that were accepted, from 0 to 1; null for `resample`, which refuses none."""
    effective_sample_size: float | None
    """The number of equally weighted proposals that each budget is worth: the mean of (sum w)^2 / sum w^2."""
    unfilled: int | None
    """The number of samples with no accepted proposal: each is the proposal with the largest logit."""
    shape: list[int]
    """The shape of `samples`: count, then the model's `item_shape`."""
    samples: list[Any]
    """The samples, in the order of their numbers."""
    label: str | None = None
    """The class of all samples, if the request names one."""
    labels: list[str] | None = None
    """The class of each sample, if the version has a class condition, and the request no `label`."""
    latents: list[list[float]] | None = None
    """The latent of each sample, rows of D numbers, if the request has `return_latents`."""


def completed(
    request: SampleRequest, loaded: LoadedModel, media_type: str, settings: Settings
) -> SampleRequest:
    """Return the request with its count and budget filled in, checked before any work.

    Raises:
        LimitExceeded: more samples than are answered in that media type.
        OperationNotOffered, LimitExceeded, Unfit: as `sample.completed`.
    """
    count = request.count
    if count is None:
        count = 1 if request.labels is None else len(request.labels)
        if media_type == PNG and loaded.makes_densities and request.labels is None:
            count = min(settings.max_json_count, sample.END - request.offset)
        request = request.model_copy(update={"count": count})
    check_items(count, media_type, request, loaded, settings, counted="count", streams=True)
    return sample.completed(request, request.offset, count, loaded, settings)


async def _sample(call: Call[SampleRequest], accepted: str) -> Answer:
    request, loaded, count = call.options, call.loaded, call.options.count
    assert count is not None, "the request is completed"
    seed = secrets.randbelow(noise.MAX_SEED + 1) if request.seed is None else request.seed
    headers: tuple[tuple[bytes, bytes], ...] = (
        (b"x-pushforward-seed", b"%d" % seed),
        (b"x-pushforward-offset", b"%d" % request.offset),
    )
    if accepted == NPY and count > STREAM_ROWS:
        shape = (count, *loaded.manifest.item_shape)
        length = len(codecs.npy_header(shape)) + 4 * int(np.prod(shape, dtype=object))
        rows = max(1, STREAM_ROWS // (request.budget or 1))
        first = await sample.sample(sample.part_of(call, 0, rows), seed, request.offset, rows)
        return Answer(NPY, _stream(call, seed, shape, rows, first), length, headers, count)
    result = await sample.sample(call, seed, request.offset, count)
    arrays = {"samples": result.arrays["samples"]}
    if request.return_latents and accepted == JSON:
        arrays["latents"] = result.arrays.get("latents")
        if arrays["latents"] is None:  # the samples were not chosen
            arrays["latents"] = loaded.prior.latents(seed, request.offset, count, request.temperature)
    fields: dict[str, Any] = {"seed": seed, "offset": request.offset, **_DIRECT}
    if result.fields:  # the samples were chosen
        fields |= result.fields
        headers += tuple([(h, b"%.6g" % fields[n]) for n, h in _CHOICE_HEADERS.items() if n in result.fields])
    classes = _classes(call, count) if accepted in (JSON, CSV) else None  # the others hold items alone
    if classes is not None:
        fields |= {"labels": classes.tolist()} if request.label is None else {"label": classes[0]}
    return await arrays_answer(call, accepted, arrays, fields, headers=headers, classes=classes)


def _classes(call: Call[SampleRequest], count: int) -> NDArray[np.object_] | None:
    """Return the names of the samples' classes, (B,); None for a version without a class condition."""
    request, manifest = call.options, call.loaded.manifest
    numbers = range(request.offset, request.offset + count)
    labels = labels_of_samples(manifest, request, numbers)
    if labels is None:
        return None
    names: NDArray[np.object_]
    names = np.array(manifest.class_names, object)[np.broadcast_to(labels, count)]
    return names


async def _stream(
    call: Call[SampleRequest], seed: int, shape: tuple[int, ...], rows: int, first: Result
) -> AsyncIterator[bytes]:
    """Yield the npy document in pieces of `rows`, each computed only once the client has read the last."""
    yield codecs.npy_header(shape) + _bytes(first)
    for start in range(rows, shape[0], rows):
        count = min(rows, shape[0] - start)
        part = sample.part_of(call, start, count)
        yield _bytes(await sample.sample(part, seed, call.options.offset + start, count, admitted=True))


def _bytes(result: Result) -> bytes:
    samples = result.arrays["samples"]
    assert samples is not None
    return samples.tobytes()


def entity_tag(loaded: LoadedModel, request: SampleRequest, media_type: str) -> str:
    """Return the ETag of a seeded sample: strong if rows are reproducible bit for bit.

    It is weak on CUDA, and for versions whose rows were not bit-equal in every batch at publishing.
    """
    asked = request.model_dump_json(exclude=None if loaded.manifest.conditional else {"label", "labels"})
    text = f"{loaded.manifest.sha256} {asked} {media_type}"
    weak = "" if loaded.provider == "cpu" and loaded.manifest.bit_equal_rows else "W/"
    return f'{weak}"{hashlib.sha256(text.encode()).hexdigest()[:32]}"'


SAMPLE = Operation(
    "sample",
    "Draw samples from the prior",
    SampleRequest,
    ARRAYS_IN,
    _sample,
    SampleAnswer,
    methods=("GET", "POST"),
    completed=completed,
    description=(
        "A picture (image/png) is a grid of images or, for items of two numbers, a plot of their density. "
        "In every media type the headers `x-pushforward-acceptance-rate`, "
        "`x-pushforward-effective-sample-size` and `x-pushforward-unfilled` hold the values of the JSON "
        f"fields of these names. Npy answers of more than {STREAM_ROWS} samples do not have them: these are "
        "streamed as they are computed, and their headers are sent before the last sample is chosen."
    ),
)
