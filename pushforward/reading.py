"""Arrays, tables and pictures in memory, read as rows of items for a model.

Libraries of tables and pictures are recognised by their methods and never imported. Shapes: B rows of items,
whose shape the model's manifest gives; D latent dimensions. Arrays are float32.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from numbers import Integral, Number
from types import MappingProxyType
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pushforward.results import Floats, IdName
from service.errors import MOST_FLAWS, Flaw, ServiceError, Unfit
from service.media.fitting import PictureRule, fitted_item, item_of_file
from service.media.items import rows_of, wanted
from service.media.tables.cells import plain_values
from service.media.tables.matching import ClassColumn, TableForm, check_names, features_of, table_of_records

_READ_BY: Final = {
    ".csv": "pandas.read_csv",
    ".tsv": "pandas.read_table",
    ".parquet": "pandas.read_parquet",
    ".json": "json.load",
    ".npy": "numpy.load",
    ".npz": "numpy.load",
}
"""The functions that read files of rows, by the endings of their names."""
Shape = tuple[int, ...]
Column: TypeAlias = Mapping[str, Any]
"""A column of a model's table, as its manifest has it: a `name`, and `categories` if they are one-hot."""
PictureForm: TypeAlias = Mapping[str, Any]
"""The way in which a model takes files of pictures, as its manifest has it."""


def as_rows(
    inputs: Any,
    item_shape: Sequence[int],
    columns: Sequence[Column] = (),
    picture: PictureForm | None = None,
) -> Floats:
    """Read one item or a batch of items as float32 (B, *item_shape).

    Args:
        inputs: An array or nested lists of one item (*item_shape) or of B items; a grey picture may lack the
            axis of its channel. Values of uint8 are pixels 0 .. 255 if items are pictures; all others are
            taken as they are. Or a table: a DataFrame of pandas or polars, an Arrow table, a structured
            array, a mapping from names to columns, a list of records, or one of these; its columns are
            matched by name. Or a PIL picture, the path of a picture's file, or a list of either, which are
            treated as those of the training were.
        item_shape: The shape of an item of the model.
        columns: The columns of the model, if it is one of tables.
        picture: The `picture` of its manifest: what is done to a PIL picture.

    Raises:
        Unfit: the inputs do not fit the model; says what came, what was expected, and what to do.
    """
    shape = tuple(item_shape)
    if columns:
        inputs = _as_records(inputs)
    names = _column_names(inputs)
    if names is not None:
        return _table(inputs, names, shape, columns)
    if _is_picture(inputs) or isinstance(inputs, str | os.PathLike):
        inputs = [inputs]
    if isinstance(inputs, list | tuple) and inputs and all(_is_picture(each) for each in inputs):
        return np.stack([fitted_item(each, shape, PictureRule.of(picture)).item for each in inputs])
    if (paths := _paths(inputs)) is not None:
        return _pictures_of_files(paths, shape, PictureRule.of(picture))
    if _are_records(inputs):
        return _records(inputs, shape, columns)
    if isinstance(inputs, Iterator):
        raise Unfit(f"a {type(inputs).__name__} came, whose rows are there only once; give a list of them")
    return _array(inputs, shape, columns)


def ids_of(inputs: Any, column: str | None) -> tuple[NDArray[Any] | None, IdName]:
    """Return the ids of rows, (B,), and their name: a column of a table, the index of a DataFrame, or paths.

    Both are None without ids; paths and many an index have no name.

    Args:
        inputs: As `as_rows` reads them.
        column: The name of a column that the model need not know; None for the index or the paths, if there
            are some.

    Raises:
        Unfit: there is no such column, or it is there twice.
    """
    paths = _paths([inputs] if isinstance(inputs, str | os.PathLike) else inputs)
    if column is None and paths is not None:
        return np.array(paths, object), None
    if column is None:
        index: Any = getattr(inputs, "index", None) if hasattr(inputs, "columns") else None  # of pandas
        if not hasattr(index, "to_numpy"):
            return None, None
        return np.asarray(index.to_numpy()), index.name if index.nlevels == 1 else tuple(index.names)
    values = _column(inputs, column)
    if values is None:
        times = (_column_names(inputs) or []).count(column)
        raise Unfit(f"`id` names the column `{column}`, which the inputs have {times} times; wanted once")
    ids = np.empty(len(values), object)
    ids[:] = plain_values(values)
    return ids, column


def labels_in(inputs: Any, classes: ClassColumn | None) -> list[int] | None:
    """Return the classes (B,) that a table holds in the model's own column of them, by number.

    Returns None if the model has no such column, or the inputs are no table or lack it.

    Raises:
        Unfit: a row has no class, or another one.
    """
    values = None if classes is None else _column(inputs, classes.name)
    return None if classes is None or values is None else classes.numbers(values)


def as_point(
    end: Any,
    item_shape: Sequence[int],
    latent_size: int,
    name: str,
    columns: Sequence[Column] = (),
    picture: PictureForm | None = None,
) -> dict[str, Any]:
    """Read an end of an interpolation as the fields `seed` and `index`, or `latent`, or `input`.

    Args:
        end: A pair (seed, index) of whole numbers; or a latent (D,); or one item, as `as_rows` reads it; or
            a mapping that has these fields already.
        item_shape: The shape of an item of the model.
        latent_size: D.
        name: The name of this end in error messages.
        columns: The columns of the model, if it is one of tables.
        picture: The `picture` of its manifest.

    Raises:
        Unfit: it fits neither, or could be a latent as well as an item.
    """
    shape, latent = tuple(item_shape), (latent_size,)
    if isinstance(end, Mapping) and end and set(end) <= {"seed", "index", "latent", "input"}:
        point = dict(end)
        if "latent" in point:
            point["latent"] = _one(point["latent"], latent, name).tolist()
        if "input" in point:
            point["input"] = _one(point["input"], shape, name, columns, picture).tolist()
        return point
    if isinstance(end, tuple) and len(end) == 2 and all(is_whole(part) for part in end):
        return {"seed": int(end[0]), "index": int(end[1])}
    if is_whole(end):
        raise Unfit(f"`{name}` is {end}; a sample is a pair (seed, index), as ({end}, 0)")
    if not _is_picture(end) and _column_names(end) is None and _has_shape(end, latent):
        if shape == latent:
            raise Unfit(
                f"`{name}` has {latent_size} numbers, which can be a latent or an item of this model; write "
                '{"latent": ...} or {"input": ...}'
            )
        return {"latent": _one(end, latent, name).tolist()}
    return {"input": _one(end, shape, name, columns, picture).tolist()}


def _one(
    value: Any,
    shape: Shape,
    name: str,
    columns: Sequence[Column] = (),
    picture: PictureForm | None = None,
) -> Floats:
    try:
        rows = as_rows(value, shape, columns, picture)
    except Unfit as error:
        raise Unfit(f"`{name}`: {error}", flaws=error.flaws) from error
    if len(rows) != 1:
        raise Unfit(f"`{name}` is one item or latent; {len(rows)} came")
    row: Floats = rows[0]
    return row


def _has_shape(value: Any, shape: Shape) -> bool:
    with contextlib.suppress(ValueError):  # of ragged lists
        return bool(np.shape(value) == shape)
    return False


def is_whole(value: Any) -> bool:
    """Return True for a whole number; a flag is none, though it is one to Python."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def _array(inputs: Any, shape: Shape, columns: Sequence[Column]) -> Floats:
    by_name = ", or a table or records by the names of its columns" if columns else ""
    try:
        array = _unmasked(inputs)
    except ValueError as error:
        raise Unfit(f"the inputs are ragged; {wanted(shape)}{by_name}") from error
    if array.dtype.kind not in "fiub":
        raise Unfit(
            f"the inputs came as {array.dtype}, a {type(inputs).__name__}; {wanted(shape)}, of numbers"
            + by_name
        )
    return rows_of(array, shape)


def _unmasked(values: Any) -> NDArray[Any]:
    """Return values as an array; what a masked one of numpy hides is missing, whatever number lies there."""
    if isinstance(values, np.ma.MaskedArray) and np.ma.is_masked(values):
        # a column of truth values or texts has no number for it
        lacking: Any = np.nan if values.dtype.kind in ("fiub" if values.ndim > 1 else "fiu") else None
        return np.where(np.ma.getmaskarray(values), lacking, values.data)
    return np.asarray(values)


def _is_picture(value: Any) -> bool:
    return hasattr(value, "getbands") and hasattr(value, "convert")


def _paths(inputs: Any) -> list[str] | None:
    """Return a list of paths as texts, or None if the inputs are something else."""
    if not isinstance(inputs, list | tuple) or not inputs:
        return None
    are_paths = all(isinstance(each, str | os.PathLike) for each in inputs)
    return [os.fspath(each) for each in inputs] if are_paths else None


def _pictures_of_files(paths: Sequence[str], shape: Shape, rule: PictureRule | None) -> Floats:
    """Read the files of pictures; all that are not taken are named."""
    rows, flaws = list[Floats](), list[Flaw]()
    for row, path in enumerate(paths):
        try:
            with open(path, "rb") as file:
                rows.append(item_of_file(file, shape, rule).item)
        except (OSError, ServiceError) as error:
            flaws.append(Flaw(f"/inputs/{row}", f"{path}: {_why_no_picture(path, error)}", row))
    if flaws:
        texts = "; ".join(flaw.message for flaw in flaws[:MOST_FLAWS])
        raise Unfit(f"{len(flaws)} of {len(paths)} files are not taken: {texts}", flaws=tuple(flaws))
    return np.stack(rows)


def _why_no_picture(path: str, error: Exception) -> str:
    """Return why the file of a path is not taken and, if it holds rows, what takes them."""
    from service.media.tables.opening import ending_of  # only to say what is wrong

    if os.path.isdir(path):
        return "it is a folder; give the paths of the pictures in it"
    if isinstance(error, OSError):
        return error.strerror or str(error)
    if how := _READ_BY.get(ending_of(path)):
        return f"it is no picture; read it, as by {how}, and give the rows"
    return str(error)


def _as_records(inputs: Any) -> Any:
    """Return a row by names, or a list of rows of pandas, as records; all else as it is."""
    if isinstance(inputs, Mapping) and inputs and all(map(_is_value, inputs.values())):
        return [inputs]
    if _is_named_row(inputs):
        return [inputs.to_dict()]
    if isinstance(inputs, list | tuple) and inputs and all(map(_is_named_row, inputs)):
        return [row.to_dict() for row in inputs]
    return inputs


def _is_value(value: Any) -> bool:
    return value is None or isinstance(value, str | bytes | Number | np.generic)


def _is_named_row(value: Any) -> bool:
    """Return True for a row of a DataFrame of pandas, whose labels are the names of the columns."""
    if hasattr(value, "columns") or not (hasattr(value, "to_dict") and hasattr(value, "index")):
        return False
    labels = value.index
    return not callable(labels) and any(isinstance(label, str) for label in labels)


def _are_records(inputs: Any) -> bool:
    is_list = isinstance(inputs, list | tuple) and len(inputs) > 0
    return is_list and all(isinstance(row, Mapping) for row in inputs)


def _column(inputs: Any, name: str) -> Any:
    """Return the values of a column of a table or of records, (B,), or None unless they have it once."""
    inputs = _as_records(inputs)
    if _are_records(inputs):
        return [row.get(name) for row in inputs] if any(name in row for row in inputs) else None
    names = _column_names(inputs) or []
    return _values(inputs, name) if names.count(name) == 1 else None


def _column_names(inputs: Any) -> list[Any] | None:
    """Return the keys of a table's columns, or None if the inputs are no table."""
    if isinstance(inputs, np.ndarray):
        return list(inputs.dtype.names or ()) or None  # those of a structured array
    if isinstance(inputs, Mapping):
        return list(inputs)
    names = getattr(inputs, "column_names", None)  # Arrow
    if names is None and hasattr(inputs, "__getitem__"):
        names = getattr(inputs, "columns", None)  # pandas and polars
    return None if names is None else list(names)


def _records(records: Sequence[Mapping[str, Any]], shape: Shape, columns: Sequence[Column]) -> Floats:
    table, lacking = table_of_records(records, TableForm.of(columns))
    return _table(table, list(table), shape, columns, lacking)


def _table(
    table: Any,
    keys: list[Any],
    shape: Shape,
    columns: Sequence[Column],
    lacking: Mapping[str, Sequence[int]] = MappingProxyType({}),
) -> Floats:
    if not columns:
        raise Unfit(f"a table came, but this model has no named columns; {wanted(shape)}, as an array")
    form = TableForm.of(columns)
    names = [str(key) for key in keys]
    check_names(names, form, refuse_unknown=False)
    key_of = dict(zip(names, keys, strict=True))
    parts = {name: _values(table, key_of[name]) for name in form.columns if name in key_of}
    return features_of(parts, form, names=names, lacking=lacking)


def _values(table: Any, key: Any) -> Any:
    try:
        column = table[key]
        if isinstance(column, list | tuple) or hasattr(column, "to_pylist"):
            return column
        values = _unmasked(column.to_numpy() if hasattr(column, "to_numpy") else column)
    except (TypeError, ValueError, AttributeError, LookupError) as error:
        reason = " ".join(str(error).split())
        raise Unfit(
            f"the column `{key}` of a {type(table).__name__} cannot be read: {reason}; give a "
            "DataFrame (of a lazy one, what `collect` or `df` returns), an Arrow table, or columns by name"
        ) from error
    if values.ndim != 1:
        raise Unfit(f"the column `{key}` has shape {list(values.shape)}; a column has one axis")
    return values
