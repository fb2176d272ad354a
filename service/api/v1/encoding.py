"""Results of operations as answers: arrays and scores as JSON, npy, CSV and pictures."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from service.api.answer import CSV, JSON, NPY, PNG, Answer, bytes_of, csv_pieces, json_pieces
from service.api.operations.call import Call, Result
from service.api.problems import Headers
from service.api.v1.operation import ItemsOptions
from service.errors import LimitExceeded, Unfit
from service.media import codecs, pictures
from service.media.tables.writing import Column, columns_of, numbered_columns
from service.numerics.noise import Floats
from service.runtime.model import LoadedModel
from service.settings import Settings

ARRAYS_IN: Final = (JSON, NPY, PNG, CSV)
"""The media types that `arrays_answer` encodes."""
SCORES_IN: Final = (JSON, CSV)
"""The media types that `scores_answer` encodes."""
INLINE_VALUES: Final = 2**18
"""Larger grids and all density plots are encoded in a thread. npy is only a copy; JSON holds the GIL, so it
is written in pieces."""
_VERDICTS: Final = ("p_value", "anomaly", "surprise")
"""The scores that come first in CSV."""
_MOST_SCALED_VALUES: Final = 2**24
"""Most values of a picture whose images are enlarged, 16 MiB before compression."""


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
    classes: Column | None = None,
) -> Answer:
    """Encode arrays in the accepted media type: all in JSON, after `fields`; the first alone in others.

    A picture is a grid of images, `columns` across, or a plot of the density of points. Of tables, CSV and
    records have the names of the columns, and draws have integers where a column is of whole numbers.
    `classes` are those of the rows, (B,), a column of both.
    """
    name, first = next(iter(arrays.items()))
    details: dict[str, Any] = {"headers": headers, "rows": len(first)}
    if accepted == NPY:
        return Answer.of_pieces(NPY, codecs.npy_in_pieces(first), **details)
    if accepted == PNG:
        return Answer.of_pieces(PNG, [await _picture(call, first, columns)], **details)
    details["array_bytes"] = bytes_of(arrays)
    if accepted == CSV:
        return await csv_answer(after_ids(call, _columns_of(call, first, name, classes)), **details)
    fields = {**identity(call), **(fields or {}), **row_fields(call), "shape": list(first.shape)}
    if call.options.form == "records":
        others = {other: array for other, array in arrays.items() if other != name}
        pieces = json_pieces(fields, others, {name: _columns_of(call, first, name, classes)})
    else:
        pieces = json_pieces(fields, arrays)
    return await Answer.of_text(JSON, pieces, **details)


async def csv_answer(table: Mapping[str, Column], **details: Any) -> Answer:
    """Encode columns (B,) by name as CSV; `details` are those of `Answer`."""
    return await Answer.of_text(f"{CSV}; charset=utf-8", csv_pieces(table), **details)


def row_fields(call: Call[Any]) -> dict[str, Any]:
    """Return the fields on the rows as they came: their ids, and what was done to pictures."""
    fields = {"ids": None if call.ids is None else call.ids.values, "conversions": call.conversions}
    return {name: values for name, values in fields.items() if values is not None}


def after_ids(call: Call[Any], columns: Mapping[str, Column]) -> dict[str, Column]:
    """Return columns after that of the ids that the rows came with, if they did, under its own name.

    Raises:
        Unfit: one of the columns has that name, too.
    """
    if call.ids is None:
        return dict(columns)
    if call.ids.name in columns:
        raise Unfit(
            f"`id` names the column `{call.ids.name}`, and CSV has a column of that name in its answer; "
            f"rename it, or ask for {JSON}"
        )
    return {call.ids.name: call.ids.values, **columns}


def _columns_of(call: Call[Any], items: Floats, name: str, classes: Column | None) -> dict[str, Column]:
    manifest = call.loaded.manifest
    columns = {column.name: column.categories for column in manifest.columns}
    are_draws = getattr(call.options, "output", "mean") == "draw"
    whole = {column.name for column in manifest.columns if are_draws and column.decimals == 0}
    values = columns_of(items, columns, whole) if columns else numbered_columns({name: items})
    return {**({} if classes is None else {manifest.class_column: classes}), **values}


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
    other scores that the version has.
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
        ordered = {name: columns.pop(name) for name in _VERDICTS if name in columns} | columns
        table = {name: values for name, values in ordered.items() if values is not None}
        numbers: dict[str, Any] = {"row": range(rows)} if call.ids is None else {}
        return await csv_answer(numbers | after_ids(call, table), **counted)
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
