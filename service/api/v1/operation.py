"""Operations under `/v1`: their description, content negotiation, and the encoding of their results."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any, Final, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field, model_validator

from service.api.answer import (
    CSV,
    FORM,
    JSON,
    NPY,
    PARQUET,
    PICTURES,
    PNG,
    ZIP,
    Answer,
    bytes_of,
    csv_pieces,
    json_pieces,
)
from service.api.operations.call import Call, Result
from service.api.operations.options import ArrayName, Body, Inputs, NoOptions, Records
from service.api.problems import Headers
from service.errors import LimitExceeded, NotAcceptable, Unfit
from service.media import codecs, pictures
from service.media.tables.writing import columns_of, numbered_columns
from service.numerics.noise import Floats
from service.runtime.model import LoadedModel
from service.settings import Settings

INLINE_VALUES: Final = 2**18
"""Larger grids and all density plots are encoded in a thread. npy is only a copy; JSON holds the GIL, so it
is written in pieces."""
_VERDICTS: Final = ("p_value", "anomaly", "surprise")
"""The scores that come first in CSV."""
_MOST_SCALED_VALUES: Final = 2**24
"""Most values of a picture whose images are enlarged, 16 MiB before compression."""
Id = Annotated[Any, Field(description="The id of the row; only if the request names an `id`")]
Conversions = Annotated[
    list[list[str]] | None,
    Field(
        description="For each row, what was done to its picture to make an item of it, by the version's "
        "`picture`; only if pictures came, and the version says how they are read"
    ),
]


class ModelAnswer(Body):
    """Base of all JSON answers of operations."""

    model: str
    """The name of the model that answered."""
    version: int
    """Its version."""


class ArraysAnswer(ModelAnswer):
    """Base of the JSON answers whose first array has a shape."""

    shape: list[int]
    """The shape of the first array below, also where it is answered as records: rows, then `item_shape`."""
    ids: list[Any] | None = None
    """The id of each row, if the request names an `id`."""
    conversions: Conversions = None


class ItemsRequest(Body):
    """Base of the request bodies of items: exactly one of `inputs` and `records`."""

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [
                {
                    "required": ["inputs"],
                    "properties": {
                        "inputs": {"type": "array"}, "records": {"type": "null"}, "id": {"type": "null"},
                    },
                },
                {
                    "required": ["records"],
                    "properties": {"inputs": {"type": "null"}, "records": {"type": "array"}},
                },
            ]
        }
    )  # fmt: skip
    inputs: Inputs = None
    records: Records = None
    id: Annotated[str, Field(min_length=1)] | None = None
    """With records, the name of a column that the model does not know, and that tells the rows apart: its
    values are answered beside the rows."""

    @model_validator(mode="after")
    def _has_one_form_of_rows(self) -> Self:
        if (self.inputs is None) == (self.records is None):
            raise ValueError("give exactly one of inputs and records")
        if self.id is not None and self.records is None:
            raise ValueError("id names a column of records; inputs have none")
        return self


class ItemsOptions(Body):
    """Options of the answers that hold items."""

    scale: Annotated[int, Field(ge=1, le=64)] = 1
    """Pixels of a PNG for each pixel of an image, along both sides: small images are enlarged without blur.
    Other answers, and plots of densities, do not depend on it."""
    form: Annotated[Literal["arrays", "records"] | None, Field(alias="as")] = None
    """JSON of tables. `records`: each item is an object of values by column, with the name of its most
    probable category; `arrays`: a list of features. Null is `records` for rows that came by name, else
    `arrays`."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """Sizes that a model's requests must have: D, the item's shape, and the most rows of a JSON body."""

    latent: int
    item: tuple[int, ...]
    max_rows: int
    takes_missing: bool = False
    """True if null in an item is a missing value."""

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
        return (JSON, NPY) if self.array == "latents" else (JSON, NPY, CSV, PARQUET, *PICTURES, FORM, ZIP)


@lru_cache(maxsize=256)
def negotiate(accept: str, offered: tuple[str, ...]) -> str:
    """Return the offered media type that `Accept` prefers (RFC 9110, section 12.5.1); the first of equals.

    Raises:
        NotAcceptable: it accepts none.
    """
    ranges = _ranges(accept)
    best = max(offered, key=lambda media_type: _quality(ranges, media_type))
    if not _quality(ranges, best):
        raise NotAcceptable(f"this operation answers {', '.join(offered)}")
    return best


def _ranges(accept: str) -> dict[str, float]:
    """Return the ranges of media types in a header, each with its highest q; all if the header is absent."""
    ranges: dict[str, float] = {} if accept.strip() else {"*/*": 1.0}
    for entry in accept.lower().split(","):
        wanted, *parameters = (part.strip() for part in entry.split(";"))
        if not wanted:
            continue
        weight = next((text[2:] for text in parameters if text.startswith("q=")), "1")
        try:
            quality = min(1.0, max(0.0, float(weight)))
        except ValueError:
            quality = 0.0
        ranges[wanted] = max(quality, ranges.get(wanted, 0.0))
    return ranges


def _quality(ranges: Mapping[str, float], media_type: str) -> float:
    """Return the q of the most specific range that covers the media type; 0 if none does."""
    family = media_type.split("/")[0]
    covering = (ranges[wanted] for wanted in (media_type, f"{family}/*", "*/*") if wanted in ranges)
    return next(covering, 0.0)


def check_items(
    count: int,
    media_type: str,
    options: ItemsOptions,
    loaded: LoadedModel,
    settings: Settings,
    *,
    counted: str = "rows",
    streams: bool = False,
) -> None:
    """Check that so many items can be answered in a media type, with these options, before any work.

    `counted` is the client's word for their number. If the operation `streams` npy, such an answer may have
    more bytes than a body.

    Raises:
        LimitExceeded: more items than go into that media type, or into one picture at this `scale`.
        Unfit: records are asked for, and the items have no named columns.
    """
    whole = settings.max_answered_rows(loaded.item_bytes)
    most_npy = settings.max_count if streams else min(settings.max_count, whole)
    limit = most_npy if media_type == NPY else min(settings.max_json_count, whole)
    if count > limit:
        way_out = f"ask for {NPY} to get more" if most_npy > limit else "ask for fewer at a time"
        raise LimitExceeded(f"{counted} is {count}, at most {limit} go into {media_type}; {way_out}")
    scale = options.scale
    values = count * loaded.item_size * scale**2
    if media_type == PNG and scale > 1 and not loaded.makes_densities and values > _MOST_SCALED_VALUES:
        raise LimitExceeded(
            f"{count} images enlarged {scale} times are {values} values, at most {_MOST_SCALED_VALUES} go "
            "into one PNG; take a smaller scale or fewer images"
        )
    if options.form == "records" and not loaded.manifest.columns:
        raise Unfit(f"{loaded.manifest.name} has no named columns; leave `as` out, or ask for `arrays`")


async def arrays_answer(
    call: Call[Any],
    accepted: str,
    arrays: Mapping[str, Any],
    fields: Mapping[str, Any] | None = None,
    *,
    headers: Headers = (),
    columns: int | None = None,
) -> Answer:
    """Encode arrays in the accepted media type: all in JSON, after `fields`; the first alone in others.

    A picture is a grid of images, `columns` across, or a plot of the density of points. Of tables, CSV and
    records have the names of the columns.
    """
    name, first = next(iter(arrays.items()))
    details: dict[str, Any] = {"headers": headers, "rows": len(first), "array_bytes": bytes_of(arrays)}
    if accepted == NPY:
        return Answer.of_pieces(NPY, codecs.npy_in_pieces(first), **details)
    if accepted == PNG:
        return Answer.of_pieces(PNG, [await _picture(call, first, columns)], **details)
    if accepted == CSV:
        pieces = csv_pieces({**id_column(call), **_columns_of(call, first, name)})
        return await Answer.of_text(content_type(CSV), pieces, **details)
    fields = {**identity(call), **(fields or {}), **row_fields(call), "shape": list(first.shape)}
    if call.options.form == "records":
        others = {other: array for other, array in arrays.items() if other != name}
        pieces = json_pieces(fields, others, {name: _columns_of(call, first, name)})
    else:
        pieces = json_pieces(fields, arrays)
    return await Answer.of_text(JSON, pieces, **details)


def content_type(media_type: str) -> str:
    """Return the header of an answer: text names its encoding."""
    return f"{CSV}; charset=utf-8" if media_type == CSV else media_type


def row_fields(call: Call[Any]) -> dict[str, Any]:
    """Return the fields on the rows as they came: their ids, and what was done to pictures."""
    fields = {"ids": None if call.ids is None else call.ids.values, "conversions": call.conversions}
    return {name: values for name, values in fields.items() if values is not None}


def id_column(call: Call[Any]) -> dict[str, Sequence[Any]]:
    """Return the column of the ids that the rows came with, if they did, under its own name."""
    return {} if call.ids is None else {call.ids.name: call.ids.values}


def _columns_of(call: Call[Any], items: Floats, name: str) -> dict[str, NDArray[Any]]:
    columns = {column.name: column.categories for column in call.loaded.manifest.columns}
    return columns_of(items, columns) if columns else numbered_columns({name: items})


async def _picture(call: Call[Any], samples: Floats, columns: int | None) -> bytes:
    if call.loaded.makes_densities:
        return await asyncio.to_thread(pictures.density_png, samples, call.loaded.manifest.view)
    scale = getattr(call.options, "scale", 1)
    if samples.size * scale**2 > INLINE_VALUES:
        return await asyncio.to_thread(pictures.png_grid, samples, columns, scale)
    return pictures.png_grid(samples, columns, scale)


async def scores_answer(call: Call[Any], result: Result, accepted: str) -> Answer:
    """Encode a result as a list of scores, one object for each row, and after it the maps, if any; or as CSV.

    CSV has a line for each row: its id or, without ids, its number from 0; the p-value and the flag; and the
    scores, of which those that the version does not have are left out.
    """
    columns = dict(result.arrays)
    maps, of_columns = columns.pop("map", None), columns.pop("columns", None)
    rows, single = len(call.arrays["inputs"]), {}
    counted = {
        "rows": rows, "anomalies": result.anomalies, "p_values": result.p_values,
        "array_bytes": bytes_of(result.arrays),
    }  # fmt: skip
    if of_columns is not None:
        single = {
            column.name: [None if math.isnan(value) else value for value in values]
            for column, values in zip(call.loaded.manifest.columns, of_columns.T.tolist(), strict=True)
        }
    if accepted == CSV:
        columns |= {f"p_value.{name}": np.array(values, object) for name, values in single.items()}
        table: dict[str, Any] = id_column(call) or {"row": range(rows)}
        table |= {name: columns.pop(name) for name in _VERDICTS if name in columns} | columns
        pieces = csv_pieces({name: values for name, values in table.items() if values is not None})
        return await Answer.of_text(content_type(CSV), pieces, **counted)
    scores: dict[str, Sequence[Any]] = {} if call.ids is None else {"id": call.ids.values}
    scores |= {name: [None] * rows if values is None else values.tolist() for name, values in columns.items()}
    if of_columns is not None:
        scores["columns"] = _RowsOf(single)
    arrays = {} if maps is None else {"map": maps}
    fields = {**identity(call), **result.fields}
    if call.conversions is not None:
        fields["conversions"] = call.conversions
    return await Answer.of_text(JSON, json_pieces(fields, arrays, {"scores": scores}), **counted)


class _RowsOf(Sequence[Any]):
    """Columns as one object for each row, which is made when it is asked for."""

    def __init__(self, columns: Mapping[str, Sequence[Any]]) -> None:
        self._columns = columns

    def __len__(self) -> int:
        return len(next(iter(self._columns.values())))

    def __getitem__(self, place: Any) -> Any:
        values = [column[place] for column in self._columns.values()]
        if not isinstance(place, slice):
            return dict(zip(self._columns, values, strict=True))
        return [dict(zip(self._columns, row, strict=True)) for row in zip(*values, strict=True)]


def identity(call: Call[Any]) -> dict[str, Any]:
    """Return the fields that name the version that answers."""
    manifest = call.loaded.manifest
    return {"model": manifest.name, "version": manifest.version}
