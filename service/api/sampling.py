"""Sampling the prior and walking between points of the latent space."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import AsyncIterator
from typing import Annotated, Any, Final, Literal

import numpy as np
from pydantic import Field, create_model, model_validator

from service import media, noise
from service.api.exchange import (
    ITEM_TEXT,
    JSON,
    NPY,
    PNG,
    Answer,
    Body,
    Call,
    Floats,
    Operation,
    Seed,
    Sizes,
    arrays_answer,
)
from service.api.reading import nested
from service.errors import LimitExceeded, Unfit
from service.served import Served
from service.settings import Settings

STREAM_ROWS: Final = 1_024
"""Larger npy answers are streamed, in pieces of so many samples."""

_MOST_COLUMNS = 16


class SampleRequest(Body):
    """What to draw. Sample i of a seed depends on the version, the seed and i alone."""

    count: Annotated[int, Field(ge=1)] = 1
    """How many samples: offset, offset + 1, ..."""
    seed: Seed | None = None
    """Names the noise; a fresh one is drawn, and answered, if null."""
    offset: Annotated[int, Field(ge=0, lt=2**53)] = 0
    """The first sample's number."""
    temperature: Annotated[float, Field(ge=0, le=10)] = 1.0
    """Scales the prior's standard deviation: below 1 typical, above 1 unusual samples."""
    output: Literal["mean", "draw"] = "mean"
    """The likelihood's mean, or a draw from the likelihood (VAE)."""
    method: Literal["direct"] = "direct"
    """`direct`: the prior pushed forward, every sample kept."""
    return_latents: bool = False
    """Whether the JSON answer holds the latents too."""


class SampleAnswer(Body):
    """Samples, and all that is needed to draw them again."""

    model: str
    version: int
    seed: int
    offset: int
    shape: list[int]
    samples: list[Any]
    latents: list[list[float]] | None = None


class Point(Body):
    """An end of a path: exactly one of `seed` (with `index`), `latent` and `input`."""

    seed: Seed | None = None
    """A seed, whose sample number `index` is meant."""
    index: Annotated[int, Field(ge=0, lt=2**53)] = 0
    """The number of the sample of the seed."""
    latent: list[float] | None = None
    """A latent itself, D numbers."""
    input: Annotated[
        list[Any] | None,
        Field(description=f"An item, whose posterior mean is meant; the model offers `encode`. {ITEM_TEXT}"),
    ] = None

    @model_validator(mode="after")
    def _is_one_point(self) -> Point:
        given = self.model_fields_set - {"index"}
        if len(given) != 1 or ("index" in self.model_fields_set and "seed" not in given):
            raise ValueError("give exactly one of seed (with index), latent and input")
        return self


class InterpolateRequest(Body):
    """A path through the latent space, both ends included exactly."""

    start: Annotated[Point, Field(alias="from")]
    """Where the path begins."""
    end: Annotated[Point, Field(alias="to")]
    """Where it ends."""
    steps: Annotated[int, Field(ge=2)] = 10
    """Points on the path, both ends counted."""
    path: Literal["spherical", "linear"] = "spherical"
    """Along the great circle, where a Gaussian prior has its mass, or straight."""


def _typed_interpolation(sizes: Sizes) -> type[Body]:
    """The body of an interpolation whose latents and inputs have the model's sizes."""
    ends: Any = {"latent": (nested((sizes.latent,)), None), "input": (nested(sizes.item), None)}
    point = create_model("Point", __base__=Point, **ends)
    fields: Any = {
        "start": (Annotated[point, Field(alias="from")], ...),
        "end": (Annotated[point, Field(alias="to")], ...),
    }
    return create_model("InterpolateRequest", __base__=InterpolateRequest, **fields)


class InterpolateAnswer(Body):
    """The decoded path."""

    model: str
    version: int
    shape: list[int]
    samples: list[Any]
    latents: list[list[float]]


async def sample(call: Call[SampleRequest]) -> Answer:
    """Answers `count` samples; large npy answers as a stream."""
    request = call.request
    check_count(request, call.accepted, call.settings)
    seed = secrets.randbelow(noise.MAX_SEED + 1) if request.seed is None else request.seed
    headers = (("x-pushforward-seed", str(seed)), ("x-pushforward-offset", str(request.offset)))
    if call.accepted == NPY and request.count > STREAM_ROWS:
        shape = (request.count, *call.served.manifest.item_shape)
        length = len(media.npy_header(shape)) + 4 * int(np.prod(shape, dtype=object))
        first = await _drawn(call, seed, request.offset, STREAM_ROWS)
        return Answer(NPY, _stream(call, seed, shape, first[0]), length, headers, request.count)
    samples, latents = await _drawn(call, seed, request.offset, request.count)
    fields = call.identity | {"seed": seed, "offset": request.offset, "shape": list(samples.shape)}
    arrays = {"samples": samples} | ({"latents": latents} if request.return_latents else {})
    return await arrays_answer(call, fields, arrays, headers=headers)


def check_count(request: SampleRequest, media_type: str, settings: Settings) -> None:
    """Raises LimitExceeded if that many samples are not answered as that media type."""
    limit = settings.max_count if media_type == NPY else settings.max_json_count
    if request.count > limit:
        hint = f"; ask for {NPY} to get more" if media_type != NPY else ""
        raise LimitExceeded(f"count is {request.count}, at most {limit} go into {media_type}{hint}")


async def _drawn(
    call: Call[SampleRequest], seed: int, start: int, count: int, *, admitted: bool = False
) -> tuple[Floats, Floats]:
    request = call.request
    latents = call.served.prior.latents(seed, start, count, request.temperature)
    samples = await call.served.sample(latents, seed, start, request.output, call.timing, admitted=admitted)
    return samples, latents


async def _stream(
    call: Call[SampleRequest], seed: int, shape: tuple[int, ...], first: Floats
) -> AsyncIterator[bytes]:
    """The npy document piece by piece; nothing is computed ahead of a reader that does not read."""
    yield media.npy_header(shape) + first.tobytes()
    for start in range(STREAM_ROWS, shape[0], STREAM_ROWS):
        count = min(STREAM_ROWS, shape[0] - start)
        samples, _ = await _drawn(call, seed, call.request.offset + start, count, admitted=True)
        yield samples.tobytes()


async def interpolate(call: Call[InterpolateRequest]) -> Answer:
    """Answers the items along a path between two points."""
    request = call.request
    if request.steps > call.settings.max_steps:
        raise LimitExceeded(f"steps is {request.steps}, at most {call.settings.max_steps} are taken")
    start, end = [
        await _latent(call, point, name) for point, name in ((request.start, "from"), (request.end, "to"))
    ]
    walk = noise.spherical_path if request.path == "spherical" else noise.linear_path
    latents = walk(start[0], end[0], request.steps)
    samples = await call.served.decode(latents, call.timing)
    fields = call.identity | {"shape": list(samples.shape)}
    return await arrays_answer(
        call, fields, {"samples": samples, "latents": latents}, columns=min(request.steps, _MOST_COLUMNS)
    )


async def _latent(call: Call[InterpolateRequest], point: Point, name: str) -> Floats:
    """The latent (1, D) that is meant by an end of a path."""
    served = call.served
    manifest = served.manifest
    if point.latent is not None:
        latent = media.from_lists([point.latent], (manifest.latent_size,), f"{name}/latent")
        media.check_support(latent, "latent", f"{name}/latent")
        return latent
    if point.input is not None:
        served.require("encode")
        item = media.from_lists([point.input], manifest.item_shape, f"{name}/input")
        media.check_support(item, manifest.support, f"{name}/input", manifest.columns)
        mean, _ = await served.encode(item, call.timing)
        return mean
    if point.seed is None:
        raise Unfit(f"`{name}` has a null seed; give a number")
    return served.prior.latents(point.seed, point.index, 1, 1.0)


def entity_tag(served: Served, request: SampleRequest, media_type: str) -> str:
    """The ETag of a seeded sample: strong where rows are bit for bit reproducible, weak on CUDA."""
    text = f"{served.manifest.sha256} {request.model_dump_json()} {media_type}"
    weak = "W/" if served.provider == "cuda" else ""
    return f'{weak}"{hashlib.sha256(text.encode()).hexdigest()[:32]}"'


SAMPLE = Operation(
    "sample", "Draw samples from the prior", SampleRequest, (JSON, NPY, PNG), sample, SampleAnswer
)
INTERPOLATE = Operation(
    "interpolate",
    "Walk between two points of the latent space",
    InterpolateRequest,
    (JSON, NPY, PNG),
    interpolate,
    InterpolateAnswer,
    typed=_typed_interpolation,
)
