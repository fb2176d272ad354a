"""Operations under `/v1`: their description, content negotiation, and the encoding of their results."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from service.api.answer import JPEG, JSON, NPY, PNG, Answer, json_in_pieces, to_json
from service.api.operations.call import Call, Result
from service.api.operations.options import ArrayName, Body, NoOptions
from service.api.problems import Headers
from service.errors import LimitExceeded, NotAcceptable
from service.media import codecs, pictures
from service.numerics.noise import Floats
from service.runtime.model import LoadedModel
from service.settings import Settings

INLINE_VALUES: Final = 2**18
"""Larger grids and all density plots are encoded in a thread. npy is only a copy; JSON holds the GIL, so it
is written in pieces."""


class ModelAnswer(Body):
    """Base of all JSON answers of operations."""

    model: str
    """The name of the model that answered."""
    version: int
    """Its version."""


class ArraysAnswer(ModelAnswer):
    """Base of the JSON answers whose first array has a shape."""

    shape: list[int]
    """The shape of the first array below: rows, then the model's `item_shape`."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """Sizes that a model's requests must have: D, the item's shape, and the most rows of a JSON body."""

    latent: int
    item: tuple[int, ...]
    max_rows: int

    def row(self, array: ArrayName) -> tuple[int, ...]:
        """Return the shape of one row of an array."""
        return (self.latent,) if array == "latents" else self.item


@dataclass(frozen=True, slots=True, eq=False)
class Operation:
    """An operation under `/v1`; the handler and the OpenAPI document are built from these."""

    name: str
    summary: str
    request: type[Body]
    """The JSON body as documented."""
    answers: tuple[str, ...]
    """Media types of the answer; the first is the default."""
    answer: Callable[[Call[Any], str], Awaitable[Answer]]
    """Runs the operation and encodes its result in an accepted media type."""
    answer_schema: type[ModelAnswer]
    array: ArrayName | None = None
    """The field of the body that holds rows."""
    options: type[Body] = NoOptions
    """The other fields, which are the query if the array comes alone, as npy or as a picture."""
    typed: Callable[[Sizes], type[Body]] | None = None
    """Makes the body for a model's sizes, where more than the rows of `array` depends on them."""
    answers_to: Callable[[Any], tuple[str, ...]] | None = None
    """Returns those of `answers` that a request can have, where that depends on its options."""
    methods: tuple[str, ...] = ("POST",)
    """HTTP methods; with GET the request is the query."""
    completed: Callable[[Any, LoadedModel, str, Settings], Any] | None = None
    """Checks and completes a request for a media type, before any work."""
    description: str = ""
    """Says in the documentation what neither the summary nor the texts of the fields can."""

    @property
    def takes(self) -> tuple[str, ...]:
        """Content types of the body."""
        if self.array is None:
            return (JSON,)
        return (JSON, NPY) if self.array == "latents" else (JSON, NPY, PNG, JPEG)


@lru_cache(maxsize=256)
def negotiate(accept: str, offered: tuple[str, ...]) -> str:
    """Return the offered media type that `Accept` prefers (RFC 9110, section 12.5.1); the first of equals.

    Raises:
        NotAcceptable: it accepts none.
    """
    best = max(offered, key=lambda media_type: _quality(accept, media_type))
    if not _quality(accept, best):
        raise NotAcceptable(f"this operation answers {', '.join(offered)}")
    return best


def _quality(accept: str, media_type: str) -> float:
    """Return the q of the most specific range that covers the media type; 1 if the header is absent."""
    if not accept.strip():
        return 1.0
    found = (-1, 0.0)
    for entry in accept.lower().split(","):
        wanted, *parameters = (part.strip() for part in entry.split(";"))
        family = media_type.split("/")[0]
        if wanted not in (media_type, f"{family}/*", "*/*"):
            continue
        weight = next((text[2:] for text in parameters if text.startswith("q=")), "1")
        try:
            quality = min(1.0, max(0.0, float(weight)))
        except ValueError:
            quality = 0.0
        found = max(found, (2 - wanted.count("*"), quality))
    return found[1]


def check_count(count: int, media_type: str, settings: Settings) -> None:
    """Raise LimitExceeded if more rows are to be answered than go into that media type."""
    limit = settings.max_count if media_type == NPY else settings.max_json_count
    if count > limit:
        hint = f"; ask for {NPY} to get more" if media_type != NPY else ""
        raise LimitExceeded(f"count is {count}, at most {limit} go into {media_type}{hint}")


async def arrays_answer(
    call: Call[Any],
    accepted: str,
    arrays: Mapping[str, Any],
    fields: Mapping[str, Any] | None = None,
    *,
    headers: Headers = (),
    columns: int | None = None,
) -> Answer:
    """Encode arrays in the accepted media type: all in JSON, after `fields`; the first alone as npy or PNG.

    A picture is a grid of images, `columns` across, or a plot of the density of points.
    """
    first: Floats = next(iter(arrays.values()))
    if accepted == NPY:
        body = codecs.npy(first)
    elif accepted == PNG:
        body = await _picture(call, first, columns)
    else:
        fields = {**identity(call), **(fields or {}), "shape": list(first.shape)}
        body = await json_in_pieces(fields, arrays)
    return Answer(accepted, body, len(body), headers, len(first))


async def _picture(call: Call[Any], samples: Floats, columns: int | None) -> bytes:
    if call.loaded.makes_densities:
        return await asyncio.to_thread(pictures.density_png, samples, call.loaded.manifest.view)
    if samples.size > INLINE_VALUES:
        return await asyncio.to_thread(pictures.png_grid, samples, columns)
    return pictures.png_grid(samples, columns)


async def scores_answer(call: Call[Any], result: Result) -> Answer:
    """Encode a result in JSON as a list of scores, one object for each row, and after it the maps, if any."""
    columns = dict(result.arrays)
    maps = columns.pop("map", None)
    rows = len(call.arrays["inputs"])
    lists = [[None] * rows if values is None else values.tolist() for values in columns.values()]
    scores = [dict(zip(columns, row, strict=True)) for row in zip(*lists, strict=True)]
    fields = {**identity(call), **result.fields, "scores": scores}
    body = to_json(fields) if maps is None else await json_in_pieces(fields, {"map": maps})
    return Answer(JSON, body, len(body), (), rows, result.anomalies, result.p_values)


def identity(call: Call[Any]) -> dict[str, Any]:
    """Return the fields that name the version that answers."""
    manifest = call.loaded.manifest
    return {"model": manifest.name, "version": manifest.version}
