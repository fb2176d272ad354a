"""What an operation is given and what it answers: reading by content type, writing by `Accept`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final, Generic

from pydantic import BaseModel

from service.api.answer import JPEG, JSON, NPY, PNG, Answer, Headers, json_in_pieces
from service.api.operations.options import ArrayField, Body, Request
from service.errors import NotAcceptable
from service.media import codecs, pictures
from service.numerics.noise import Floats
from service.observe.timing import Timing
from service.runtime.model import LoadedModel
from service.settings import Settings

BESIDE_THE_LOOP_VALUES: Final = 2**18
"""Grids of more values, and every density, are encoded in a thread; npy is a copy, and JSON, which holds the
interpreter, is written in pieces."""


@dataclass(slots=True)
class Call(Generic[Request]):
    """One request for one operation: what was asked of which version, and how to answer."""

    loaded: LoadedModel
    request: Request
    array: Floats | None
    accepted: str
    settings: Settings
    timing: Timing = field(default_factory=Timing)

    @property
    def identity(self) -> dict[str, Any]:
        """The model and version that answer."""
        manifest = self.loaded.manifest
        return {"model": manifest.name, "version": manifest.version}


@dataclass(frozen=True, slots=True)
class Sizes:
    """What a model's requests must have: D, the item's shape, and the most rows of a JSON body."""

    latent: int
    item: tuple[int, ...]
    max_rows: int

    def row(self, array: ArrayField) -> tuple[int, ...]:
        """The shape of one row of such an array."""
        return (self.latent,) if array == "latents" else self.item


@dataclass(frozen=True, slots=True, eq=False)
class Operation:
    """One POST operation of the API; the dispatcher and the OpenAPI document are built from these.

    `request` is its JSON body as documented. Where it holds arrays, `array` names their field, `options`
    are the other fields, given as a query when the array comes alone, as npy or as a picture. `typed`
    makes the body for a model's sizes, where that is not simply the rows of `array`. `answers_to` says which
    of the `answers` a request can have, where that depends on its options. `description` says in the
    documentation what neither the summary nor the texts of the keys can.
    """

    name: str
    summary: str
    request: type[Body]
    answers: tuple[str, ...]
    handle: Callable[[Call[Any]], Awaitable[Answer]]
    answer_schema: type[BaseModel]
    array: ArrayField | None = None
    options: type[Body] | None = None
    typed: Callable[[Sizes], type[Body]] | None = None
    answers_to: Callable[[Any], tuple[str, ...]] | None = None
    description: str = ""

    @property
    def takes(self) -> tuple[str, ...]:
        """The content types it reads."""
        if self.array is None:
            return (JSON,)
        return (JSON, NPY) if self.array == "latents" else (JSON, NPY, PNG, JPEG)


@lru_cache(maxsize=256)
def negotiate(accept: str, offered: tuple[str, ...]) -> str:
    """The offered media type that `Accept` likes best (RFC 9110, section 12.5.1); the first if all alike.

    Raises:
        NotAcceptable: it likes none.
    """
    best, best_quality = "", 0.0
    for media_type in offered:
        quality = _quality(accept, media_type)
        if quality > best_quality:
            best, best_quality = media_type, quality
    if not best:
        raise NotAcceptable(f"this operation answers {', '.join(offered)}")
    return best


def _quality(accept: str, media_type: str) -> float:
    """The q of the most specific range that covers the media type; 1 for an absent header."""
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


async def arrays_answer(
    call: Call[Any],
    arrays: Mapping[str, Floats],
    fields: Mapping[str, Any] | None = None,
    *,
    headers: Headers = (),
    columns: int | None = None,
) -> Answer:
    """The arrays as the client accepts them: all in JSON, after `fields`; the first alone as npy or PNG.

    A picture is a grid of images, `columns` across, or the density of points.
    """
    first = next(iter(arrays.values()))
    if call.accepted == NPY:
        body = codecs.npy(first)
    elif call.accepted == PNG:
        body = await _picture(call, first, columns)
    else:
        body = await json_in_pieces({**call.identity, **(fields or {}), "shape": list(first.shape)}, arrays)
    return Answer(call.accepted, body, len(body), headers, len(first))


async def _picture(call: Call[Any], samples: Floats, columns: int | None) -> bytes:
    if call.loaded.makes_densities:
        return await asyncio.to_thread(pictures.density_png, samples, call.loaded.manifest.view)
    if samples.size > BESIDE_THE_LOOP_VALUES:
        return await asyncio.to_thread(pictures.png_grid, samples, columns)
    return pictures.png_grid(samples, columns)
