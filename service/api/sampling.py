"""Sampling the prior: every sample kept, or chosen among proposals by the discriminator."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import AsyncIterator
from typing import Annotated, Any, Final, Literal

import numpy as np
from pydantic import Field

from service import media, noise
from service.api.exchange import (
    JSON,
    NPY,
    PNG,
    Answer,
    Body,
    Call,
    Count,
    Floats,
    Headers,
    Operation,
    Seed,
    arrays_answer,
)
from service.errors import LimitExceeded, Unfit
from service.filtering import Filtered
from service.served import Served
from service.settings import Settings

STREAM_ROWS: Final = 1_024
"""Larger npy answers are streamed, in pieces of so many samples, or of so many proposals."""
DEFAULT_BUDGET: Final = 16
_TOLD_IN_HEADERS: Final = (
    ("acceptance_rate", b"x-pushforward-acceptance-rate"),
    ("effective_sample_size", b"x-pushforward-effective-sample-size"),
    ("unfilled", b"x-pushforward-unfilled"),
)


class SampleRequest(Body):
    """What to draw. Sample i of a seed depends on the version, the seed, the method and i alone."""

    count: Count = 1
    """How many samples: offset, offset + 1, ... Left out, a density picture has as many as it may have."""
    seed: Seed | None = None
    """Names the noise; a fresh one is drawn, and answered, if null."""
    offset: Annotated[int, Field(ge=0, lt=2**53)] = 0
    """The first sample's number."""
    temperature: Annotated[float, Field(ge=0, le=10)] = 1.0
    """Scales the prior's standard deviation: below 1 typical, above 1 unusual samples."""
    output: Literal["mean", "draw"] = "mean"
    """The likelihood's mean, or a draw from the likelihood (VAE)."""
    method: Literal["direct", "rejection", "resample", "metropolis"] = "direct"
    """`direct`: the prior pushed forward, every sample kept. The others choose each sample among proposals
    of its own by the discriminator's logit (GAN): `rejection` the first accepted one, `resample` one by
    importance, `metropolis` the last accepted one of a chain that starts at a real item."""
    budget: Count | None = None
    """Proposals for each sample, 16 if null; not for `direct`."""
    return_latents: bool = False
    """Whether the JSON answer holds the latents too."""


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
    request = settled(call.request, call.served, call.accepted, call.settings)
    seed = secrets.randbelow(noise.MAX_SEED + 1) if request.seed is None else request.seed
    headers = ((b"x-pushforward-seed", b"%d" % seed), (b"x-pushforward-offset", b"%d" % request.offset))
    if call.accepted == NPY and request.count > STREAM_ROWS:
        shape = (request.count, *call.served.manifest.item_shape)
        length = len(media.npy_header(shape)) + 4 * int(np.prod(shape, dtype=object))
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


def settled(request: SampleRequest, served: Served, media_type: str, settings: Settings) -> SampleRequest:
    """The request with its count and budget as they are meant, checked before any work.

    Raises:
        OperationNotOffered: the version has no discriminator to choose by.
        LimitExceeded: more samples or proposals than are answered as that media type.
        Unfit: options that exclude each other.
    """
    if media_type == PNG and served.makes_densities and "count" not in request.model_fields_set:
        request = request.model_copy(update={"count": settings.max_json_count})
    check_count(request.count, media_type, settings)
    if request.method != "direct":
        return request.model_copy(update={"budget": _settled_budget(request, served, settings)})
    if request.budget is not None:
        raise Unfit("`budget` is for the methods rejection, resample and metropolis; leave it out")
    return request


def check_count(count: int, media_type: str, settings: Settings) -> None:
    """Raises LimitExceeded if more samples are asked for than are answered as that media type."""
    limit = settings.max_count if media_type == NPY else settings.max_json_count
    if count > limit:
        hint = f"; ask for {NPY} to get more" if media_type != NPY else ""
        raise LimitExceeded(f"count is {count}, at most {limit} go into {media_type}{hint}")


def _settled_budget(request: SampleRequest, served: Served, settings: Settings) -> int:
    """How many proposals each sample has; raises as `settled` does where none may be chosen among."""
    served.filter(request.method)
    if request.temperature != 1.0:
        raise Unfit(
            f"`temperature` is {request.temperature:g}; the method {request.method} takes 1 alone, since the "
            "discriminator was calibrated for samples of the prior as it is"
        )
    if request.output != "mean":
        raise Unfit(f"the output `draw` is for the method direct; {request.method} takes `mean`")
    budget = DEFAULT_BUDGET if request.budget is None else request.budget
    if budget > settings.max_budget:
        raise LimitExceeded(f"budget is {budget}, at most {settings.max_budget} are taken")
    if request.count * budget > settings.max_proposals:
        raise LimitExceeded(
            f"{request.count} samples of {budget} proposals are {request.count * budget}, over the limit of "
            f"{settings.max_proposals} a request; ask for fewer samples or a smaller budget"
        )
    return budget


async def _drawn(
    call: Call[SampleRequest],
    request: SampleRequest,
    seed: int,
    start: int,
    count: int,
    *,
    admitted: bool = False,
) -> tuple[Floats, Filtered | None]:
    """Samples and, unless the method is direct, how they were chosen."""
    served = call.served
    if request.method == "direct" or request.budget is None:
        return await served.sample(
            seed, start, count, request.temperature, request.output, call.timing, admitted=admitted
        ), None
    chosen = await served.filter(request.method).sample(
        seed, start, count, request.method, request.budget, call.timing, admitted=admitted
    )
    return chosen.samples, chosen


def _latents(call: Call[SampleRequest], request: SampleRequest, seed: int) -> Floats:
    """The latents of samples that were not chosen."""
    return call.served.prior.latents(seed, request.offset, request.count, request.temperature)


def told_of(request: SampleRequest, chosen: Filtered | None) -> dict[str, Any]:
    """What the answer tells of how its samples were chosen."""
    told: dict[str, Any] = {"method": request.method, "budget": request.budget, "acceptance_rate": None}
    if chosen is None:
        return told | {"effective_sample_size": None, "unfilled": None}
    if request.method != "resample":
        told["acceptance_rate"] = float(chosen.accepted.mean()) / (request.budget or 1)
    return told | {
        "effective_sample_size": float(chosen.effective_sample_sizes.mean()),
        "unfilled": int((~chosen.filled).sum()),
    }


def _told_in_headers(told: dict[str, Any]) -> Headers:
    """The same for answers that are no JSON; what is null has no header."""
    return tuple(
        (header, b"%.6g" % told[name]) for name, header in _TOLD_IN_HEADERS if told[name] is not None
    )


async def _stream(
    call: Call[SampleRequest], request: SampleRequest, seed: int, shape: tuple[int, ...], first: Floats
) -> AsyncIterator[bytes]:
    """The npy document piece by piece; nothing is computed ahead of a reader that does not read."""
    yield media.npy_header(shape) + first.tobytes()
    for start in range(len(first), shape[0], len(first)):
        count = min(len(first), shape[0] - start)
        samples, _ = await _drawn(call, request, seed, request.offset + start, count, admitted=True)
        yield samples.tobytes()


def entity_tag(served: Served, request: SampleRequest, media_type: str) -> str:
    """The ETag of a seeded sample: strong where rows are bit for bit reproducible, weak on CUDA."""
    text = f"{served.manifest.sha256} {request.model_dump_json()} {media_type}"
    weak = "W/" if served.provider == "cuda" else ""
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
