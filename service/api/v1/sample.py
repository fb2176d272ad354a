"""Sampling the prior: every sample kept, or chosen among proposals by the discriminator."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import AsyncIterator
from typing import Any, Final, Literal

import numpy as np

from service.api.answer import JSON, NPY, PNG, Answer, Headers
from service.api.operations.options import Body
from service.api.operations.sample import SampleRequest, settled, told_of
from service.api.v1.operation import Call, Operation, arrays_answer
from service.media import codecs
from service.numerics import noise
from service.numerics.noise import Floats
from service.runtime.filtered_sampling import FilteredSamples
from service.runtime.model import LoadedModel

STREAM_ROWS: Final = 1_024
"""Larger npy answers are streamed, in pieces of so many samples, or of so many proposals."""
_TOLD_IN_HEADERS: Final = (
    ("acceptance_rate", b"x-pushforward-acceptance-rate"),
    ("effective_sample_size", b"x-pushforward-effective-sample-size"),
    ("unfilled", b"x-pushforward-unfilled"),
)


class SampleAnswer(Body):
    """Samples, and all that is needed to draw them again; what tells of choosing is null for `direct`."""

    model: str
    version: int
    seed: int
    offset: int
    method: Literal["direct", "rejection", "resample", "metropolis"]
    budget: int | None
    acceptance_rate: float | None
    """The share of all proposals that were accepted; null for `resample`, which refuses none."""
    effective_sample_size: float | None
    """How many equally weighted proposals each budget is worth: the mean of (sum w)^2 / sum w^2."""
    unfilled: int | None
    """Samples of whose proposals none was accepted: each is the proposal with the largest logit."""
    shape: list[int]
    samples: list[Any]
    latents: list[list[float]] | None = None


async def sample(call: Call[SampleRequest]) -> Answer:
    """Answers `count` samples; large npy answers as a stream."""
    request = settled(call.request, call.loaded, call.accepted, call.settings)
    seed = secrets.randbelow(noise.MAX_SEED + 1) if request.seed is None else request.seed
    headers = ((b"x-pushforward-seed", b"%d" % seed), (b"x-pushforward-offset", b"%d" % request.offset))
    if call.accepted == NPY and request.count > STREAM_ROWS:
        shape = (request.count, *call.loaded.manifest.item_shape)
        length = len(codecs.npy_header(shape)) + 4 * int(np.prod(shape, dtype=object))
        step = max(1, STREAM_ROWS // (request.budget or 1))
        first, _ = await _drawn(call, request, seed, request.offset, step)
        return Answer(NPY, _stream(call, request, seed, shape, first), length, headers, request.count)
    samples, chosen = await _drawn(call, request, seed, request.offset, request.count)
    if chosen is None and call.accepted == NPY:  # has neither fields nor latents
        return await arrays_answer(call, {"samples": samples}, headers=headers)
    told = told_of(request, chosen)
    arrays = {"samples": samples}
    if request.return_latents and call.accepted == JSON:
        arrays["latents"] = _latents(call, request, seed) if chosen is None else chosen.latents
    fields = {"seed": seed, "offset": request.offset, **told}
    return await arrays_answer(call, arrays, fields, headers=headers + _told_in_headers(told))


async def _drawn(
    call: Call[SampleRequest],
    request: SampleRequest,
    seed: int,
    start: int,
    count: int,
    *,
    admitted: bool = False,
) -> tuple[Floats, FilteredSamples | None]:
    """Samples and, unless the method is direct, how they were chosen."""
    loaded = call.loaded
    if request.method == "direct" or request.budget is None:
        return await loaded.sample(
            seed, start, count, request.temperature, request.output, call.timing, admitted=admitted
        ), None
    chosen = await loaded.filter(request.method).sample(
        seed, start, count, request.method, request.budget, call.timing, admitted=admitted
    )
    return chosen.samples, chosen


def _latents(call: Call[SampleRequest], request: SampleRequest, seed: int) -> Floats:
    """The latents of samples that were not chosen."""
    return call.loaded.prior.latents(seed, request.offset, request.count, request.temperature)


def _told_in_headers(told: dict[str, Any]) -> Headers:
    """The same for answers that are no JSON; what is null has no header."""
    return tuple(
        (header, b"%.6g" % told[name]) for name, header in _TOLD_IN_HEADERS if told[name] is not None
    )


async def _stream(
    call: Call[SampleRequest], request: SampleRequest, seed: int, shape: tuple[int, ...], first: Floats
) -> AsyncIterator[bytes]:
    """The npy document piece by piece; nothing is computed ahead of a reader that does not read."""
    yield codecs.npy_header(shape) + first.tobytes()
    for start in range(len(first), shape[0], len(first)):
        count = min(len(first), shape[0] - start)
        samples, _ = await _drawn(call, request, seed, request.offset + start, count, admitted=True)
        yield samples.tobytes()


def entity_tag(loaded: LoadedModel, request: SampleRequest, media_type: str) -> str:
    """The ETag of a seeded sample: strong where rows are bit for bit reproducible, weak on CUDA."""
    text = f"{loaded.manifest.sha256} {request.model_dump_json()} {media_type}"
    weak = "W/" if loaded.provider == "cuda" else ""
    return f'{weak}"{hashlib.sha256(text.encode()).hexdigest()[:32]}"'


SAMPLE = Operation(
    "sample",
    "Draw samples from the prior",
    SampleRequest,
    (JSON, NPY, PNG),
    sample,
    SampleAnswer,
    description=(
        "A picture (image/png) is a grid of images, or, of items of two numbers, a plot of their density. "
        "The headers `x-pushforward-acceptance-rate`, `x-pushforward-effective-sample-size` and "
        "`x-pushforward-unfilled` tell in every media type what the JSON answer tells under these names, "
        f"save in npy answers of more than {STREAM_ROWS} samples: these are streamed as they are computed, "
        "and the headers leave before the last sample is chosen."
    ),
)
