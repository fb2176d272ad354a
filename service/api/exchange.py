"""What an operation is given and what it answers: reading by content type, writing by `Accept`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Annotated, Any, Final, Generic, Literal, TypeVar

import numpy as np
import orjson
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from service import density, media
from service.errors import NotAcceptable
from service.served import Served
from service.settings import Settings
from service.turns import Timing

JSON: Final = "application/json"
NPY: Final = "application/x-npy"
PNG: Final = "image/png"
JPEG: Final = "image/jpeg"

BESIDE_THE_LOOP_VALUES: Final = 2**18
"""Grids of more values, and every density, are encoded in a thread; npy is a copy, and JSON, which holds the
interpreter, is written in pieces."""
JSON_PIECE_VALUES: Final = 2**16
"""Of one piece: a millisecond or two."""

Floats = NDArray[np.float32]
Headers = tuple[tuple[bytes, bytes], ...]
ArrayField = Literal["inputs", "latents"]
Seed = Annotated[int, Field(ge=0, lt=2**53, description="0 .. 2^53 - 1, exact in every JSON client")]
Count = Annotated[int, Field(ge=1, lt=2**53)]
ITEM_TEXT: Final = (
    "An item is nested lists of the model's `item_shape`, with numbers of its `support`: `binary` takes "
    "zeros and ones; `unit_interval` numbers in [0, 1]; `eight_bit` too, and rounds them to the nearest of "
    "256 levels, as a PNG would; `real` any number that is finite in float32. Each categorical one of its "
    "`columns` is a 1 at the feature of the category, and else zeros."
)
Inputs = Annotated[list[Any], Field(description=f"Rows of items. {ITEM_TEXT}")]


class Body(BaseModel):
    """Base of all request bodies: strict, closed, finite."""

    model_config = ConfigDict(
        strict=True, extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


Request = TypeVar("Request", bound=Body)


@dataclass(slots=True)
class Answer:
    """A body ready to be sent, or a stream of known length, with the headers the operation adds."""

    media_type: str
    body: bytes | AsyncIterator[bytes]
    length: int
    headers: Headers = ()
    rows: int = 0
    anomalies: int = 0
    p_values: Sequence[float] = ()


@dataclass(slots=True)
class Call(Generic[Request]):
    """One request for one operation: what was asked of which version, and how to answer."""

    served: Served
    request: Request
    array: Floats | None
    accepted: str
    settings: Settings
    timing: Timing = field(default_factory=Timing)

    @property
    def identity(self) -> dict[str, Any]:
        """The model and version that answer."""
        manifest = self.served.manifest
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
        body = media.npy(first)
    elif call.accepted == PNG:
        body = await _picture(call, first, columns)
    else:
        body = await json_in_pieces({**call.identity, **(fields or {}), "shape": list(first.shape)}, arrays)
    return Answer(call.accepted, body, len(body), headers, len(first))


async def _picture(call: Call[Any], samples: Floats, columns: int | None) -> bytes:
    if call.served.makes_densities:
        return await asyncio.to_thread(density.density_png, samples, call.served.manifest.view)
    if samples.size > BESIDE_THE_LOOP_VALUES:
        return await asyncio.to_thread(media.png_grid, samples, columns)
    return media.png_grid(samples, columns)


async def json_in_pieces(fields: Mapping[str, Any], arrays: Mapping[str, Floats]) -> bytes:
    """JSON of the fields and, after them, of arrays of a row or more, by turns with whatever else waits."""
    pieces = [to_json(fields)[:-1]]
    for name, array in arrays.items():
        pieces += (b"," + to_json(name) + b":", *await array_in_pieces(array))
    return b"".join((*pieces, b"}"))


async def array_in_pieces(array: NDArray[Any]) -> list[bytes]:
    """Pieces of the JSON of an array of a row or more, made by turns with whatever else waits."""
    pieces = [b"["]
    rows = max(1, JSON_PIECE_VALUES * len(array) // array.size)
    for first in range(0, len(array), rows):
        if first:
            pieces.append(b",")
            await asyncio.sleep(0)
        pieces.append(to_json(array[first : first + rows])[1:-1])
    pieces.append(b"]")
    return pieces


def to_json(document: Mapping[str, Any] | NDArray[Any] | str) -> bytes:
    """JSON of a document that may hold arrays of numbers, or of one."""
    return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)
