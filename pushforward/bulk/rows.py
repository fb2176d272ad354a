"""Rows of an input, as stored, to the float32 arrays that a model takes.

A chunk of rows is converted by its types alone, never by its values, so that every chunk of an input is read
by the same rule. Shapes: B rows; items as the manifest says.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pushforward.bulk.failures import BulkMistake, UnfitInput
from service.errors import Unfit
from service.format.columns import Column
from service.format.manifest import Manifest, Support, is_picture
from service.media.tables.dialect import Decimal
from service.media.tables.matching import TableForm, check_names, features_of, named
from service.numerics.noise import Floats


@dataclass(frozen=True)
class RowForm:
    """The rows that an operation takes: items of a model, or its latents."""

    shape: tuple[int, ...]
    """The shape of one row."""
    support: Support
    columns: tuple[Column, ...] = ()
    """The columns of a table, in the order of the features; empty for other data."""
    takes_missing: bool = False
    """True if null is a missing value."""
    label_column: str = ""
    """The last of the columns if it holds the class of a row, one-hot in the last features; else empty."""
    id_column: str = ""
    """The column of a table that tells rows apart, and is none of the model's; empty without one."""

    @property
    def table(self) -> TableForm:
        """Return the columns as tables are matched to them."""
        return TableForm.of([each.model_dump() for each in self.columns], takes_missing=self.takes_missing)

    @property
    def values(self) -> int:
        """Return the count of numbers in a row."""
        return math.prod(self.shape)

    @property
    def row_bytes(self) -> int:
        """Return the size of a row in float32, in bytes."""
        return 4 * self.values

    @property
    def rescales(self) -> bool:
        """Return True if uint8 means 0 .. 255 of a picture."""
        return is_picture(self.shape) and self.support in ("unit_interval", "eight_bit")


class Rows(NamedTuple):
    """Rows of an input, and their ids if its form has a column of these."""

    values: Floats
    """The rows (B, *shape) as float32."""
    ids: Mapping[str, Any] = MappingProxyType({})
    """The ids, a `pyarrow.Array` (B,), by the name of their column; empty without one."""

    def sha256(self) -> str:
        """Return the SHA-256 of the rows and their ids, in hexadecimal."""
        digest = hashlib.sha256(self.values.data)
        for ids in self.ids.values():
            digest.update(json.dumps(ids.to_pylist(), default=str).encode())
        return digest.hexdigest()


class Piece(NamedTuple):
    """A piece of an input file, for messages: the file, and the number of its first row there."""

    file: str
    first_row: int

    def __str__(self) -> str:
        return self.file

    def row(self, flags: Any) -> str:
        """Return the file's row, from 0, of the first flag (B,) that is true."""
        return f"row {self.first_row + int(np.flatnonzero(np.asarray(flags))[0])}"


def items_of(manifest: Manifest) -> RowForm:
    """Return the form of a model's items."""
    return RowForm(manifest.item_shape, manifest.support, manifest.columns, manifest.takes_missing)


def labelled_items_of(manifest: Manifest) -> RowForm:
    """Return the form of a table's items with their classes, from the column that holds these."""
    name, classes = manifest.label_column or "", manifest.class_names
    columns = (*manifest.columns, Column(name=name, categories=classes))
    shape = (manifest.item_shape[0] + len(classes),)
    return RowForm(shape, manifest.support, columns, manifest.takes_missing, name)


def latents_of(manifest: Manifest) -> RowForm:
    """Return the form of a model's latents."""
    return RowForm((manifest.latent_size,), "real")


def check_array(shape: Sequence[int], dtype: np.dtype[Any], form: RowForm, where: str) -> None:
    """Raise BulkMistake unless rows of such an array (without the row axis) can be read as the form."""
    if dtype.kind not in "fiub":
        raise BulkMistake(f"{where} holds {dtype}, not numbers; save uint8 or floats")
    if tuple(shape) == form.shape or (len(shape) == 2 and (1, *shape) == form.shape):  # grey, without channel
        return
    wanted = ", ".join(map(str, form.shape))
    hint = "correct the array's shape"
    if form.label_column:
        raise BulkMistake(
            f"{where} is an array, which holds no classes; give --label, or a table with the column "
            f"{form.label_column!r}"
        )
    if sorted(shape) == sorted(form.shape) and len(shape) == 3:
        hint = "put channels first: np.ascontiguousarray(items.transpose(0, 3, 1, 2))"
    elif math.prod(shape) == form.values:
        hint = f"save items.reshape(-1, {wanted})"
    raise BulkMistake(
        f"{where} has rows of shape [{', '.join(map(str, shape))}]; wanted [rows, {wanted}]; {hint}"
    )


def rows_from_array(array: NDArray[Any], form: RowForm) -> Floats:
    """Return the rows (B, ...) of an array as (B, *shape) float32; its form has been checked."""
    rows = np.ascontiguousarray(array).reshape(len(array), *form.shape)
    if rows.dtype == np.uint8 and form.rescales:
        return rows.astype(np.float32) / np.float32(255)
    with np.errstate(over="ignore"):  # what overflows float32 is refused by its value
        return rows.astype(np.float32)


def rows_from_table(table: Any, form: RowForm, column: str, piece: Piece, decimal: Decimal = ".") -> Rows:
    """Return the rows of a `pyarrow.Table`, and their ids if the form has a column of these.

    The columns of a table are matched by name and read as HTTP and training read them, and others are left
    out; `decimal` is the mark in numbers that are texts. Other data are one column of lists, or as many
    columns of numbers as a row has.

    Raises:
        BulkMistake: a column is missing or has another type.
        UnfitInput: a value is missing, or a category is unknown.
    """
    if not form.id_column:
        return Rows(_values(table, form, column, piece, decimal))
    ids = {form.id_column: _plain(table[form.id_column])}
    return Rows(_values(table.drop_columns([form.id_column]), form, column, piece, decimal), ids)


def _values(table: Any, form: RowForm, column: str, piece: Piece, decimal: Decimal) -> Floats:
    if form.columns:
        return _features(table, form, piece, decimal)
    if column:
        return _lists(table[column], form, column, piece)
    numbers = [_numbers(table[name], name, form, piece) for name in table.column_names]
    return rows_from_array(np.stack(numbers, axis=1), form)


def _plain(column: Any) -> Any:
    """Return a column of a `pyarrow.Table` as one array without a dictionary."""
    import pyarrow

    array = column.combine_chunks()
    array = pyarrow.concat_arrays(array.chunks) if isinstance(array, pyarrow.ChunkedArray) else array
    return array.dictionary_decode() if pyarrow.types.is_dictionary(array.type) else array


def wanted_columns(types: Mapping[str, str], form: RowForm, column: str, where: str) -> tuple[str, list[str]]:
    """Choose the columns to read from those of an input.

    Args:
        types: The kind of every column by name: `list`, `number` or `other`.
        form: The rows to make of them.
        column: The column of lists that the user named, or an empty string.
        where: The input, for messages.

    Returns:
        The column of lists, or an empty string; and the names of all columns to read, that of the ids last.

    Raises:
        BulkMistake: a column of the model or of the ids is missing, or it is not clear which columns hold
            the rows.
    """
    ids = [form.id_column] if form.id_column else []
    if ids:
        _check_ids(types, form, where)
        types = {name: kind for name, kind in types.items() if name != form.id_column}
    chosen, names = _columns_of_rows(types, form, column, where)
    return chosen, names + ids


def _check_ids(types: Mapping[str, str], form: RowForm, where: str) -> None:
    name = form.id_column
    if any(each.name == name for each in form.columns):
        raise BulkMistake(f"--id {name}: the model takes this column; name one that it does not know")
    if name not in types:
        raise BulkMistake(f"{where} has no column {name!r}, which --id names; it has {named(list(types))}")
    if types[name] == "list":
        raise BulkMistake(f"{where}: column {name!r} holds lists; --id takes a column of texts or numbers")


def _columns_of_rows(
    types: Mapping[str, str], form: RowForm, column: str, where: str
) -> tuple[str, list[str]]:
    if form.columns:
        try:
            check_names(list(types), form.table, refuse_unknown=False)
        except Unfit as error:
            raise BulkMistake(f"{where}: {error}") from error
        return "", [each.name for each in form.columns]
    lists = [name for name, kind in types.items() if kind == "list"]
    if column:
        if column not in types:
            raise BulkMistake(f"{where} has no column {column!r}; it has {named(list(types))}")
        if column not in lists:
            raise BulkMistake(
                f"{where}: column {column!r} does not hold lists; those that do: {named(lists) or 'none'}"
            )
        return column, [column]
    if len(lists) == 1:
        return lists[0], lists
    if lists:
        raise BulkMistake(f"{where} has several columns of lists, {named(lists)}; name one with --column")
    numbers = [name for name, kind in types.items() if kind == "number"]
    if len(numbers) != form.values:
        raise BulkMistake(
            f"{where} has {len(numbers)} columns of numbers, {named(numbers) or 'none'}; a row of this model "
            f"has {form.values} numbers, in as many columns or in one column of lists"
        )
    return "", numbers


def _features(table: Any, form: RowForm, piece: Piece, decimal: Decimal) -> Floats:
    wanted = replace(form.table, decimal=decimal)
    columns = {name: table[name] for name in table.column_names}
    try:
        return features_of(columns, wanted, first_row=piece.first_row)
    except Unfit as error:
        raise UnfitInput(f"{piece}: {error}") from error


def _numbers(values: Any, name: str, form: RowForm, piece: Piece) -> NDArray[Any]:
    """Return a column of numbers (B,), in float64 unless it is float32; a missing one is NaN."""
    import pyarrow
    from pyarrow import types

    kind = values.type
    numeric = (types.is_integer, types.is_floating, types.is_boolean, types.is_decimal, types.is_null)
    if not any(is_one(kind) for is_one in numeric):
        raise UnfitInput(f"{piece}: column {name!r} holds {kind}, not numbers")
    _check_filled(values, name, form, piece)
    if types.is_float32(kind):
        return np.asarray(values)
    return np.asarray(values.cast(pyarrow.float64(), safe=False))


def _check_filled(values: Any, name: str, form: RowForm, piece: Piece) -> None:
    if values.null_count and not form.takes_missing:
        raise UnfitInput(
            f"{piece}: column {name!r} has {values.null_count} missing values, the first in "
            f"{piece.row(values.is_null())}; fill them in, or remove these rows"
        )


def _lists(values: Any, form: RowForm, name: str, piece: Piece) -> Floats:
    """Return a column of lists of one length as rows."""
    import pyarrow
    import pyarrow.compute

    where = f"{piece}: column {name!r}"
    array = values.combine_chunks() if isinstance(values, pyarrow.ChunkedArray) else values
    _check_filled(array, name, RowForm(form.shape, form.support), piece)  # a whole row is never missing
    lengths = np.asarray(pyarrow.compute.list_value_length(array))
    if (wrong := lengths != form.values).any():
        raise UnfitInput(
            f"{where} has a list of {lengths[wrong][0]} numbers in {piece.row(wrong)}; a row of this model "
            f"has {form.values}"
        )
    flat = array.flatten()
    if flat.null_count and not form.takes_missing:
        raise UnfitInput(f"{where} has lists with missing values; fill them in, or remove these rows")
    return rows_from_array(np.asarray(flat).reshape(len(array), form.values), form)
