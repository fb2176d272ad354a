"""The user's table: a CSV, TSV or Parquet file with named columns.

Apache Arrow (pyarrow) reads the files and infers a column's type from all of its rows.
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

import numpy as np

from service.format.manifest import Column
from service.numerics.noise import Doubles
from training.data.dataset import DataError, Dataset
from training.data.features import check_numbers, table_dataset, way_out
from training.data.options import DataOptions
from training.data.splits import classes_of, named, no_classes, partition

_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_MOST_CATEGORIES = 256
_LONGEST_NAME = 200


def load_table(options: DataOptions) -> Dataset:
    """Load a table: numbers in their own units, categories one-hot, in the file's order.

    Integers and booleans are numbers. The categories of a column come from all rows of the file, not only
    from the training split, so a category that training does not see still has its feature.

    Raises:
        DataError: Naming the file, the column and what to do.
    """
    path, label = options.own_path, options.label
    table = _without_dropped(_read(path, options), options, path)
    classes = no_classes(table.num_rows)
    if label is not None:
        classes = classes_of(_texts(table[label], label, path))
    columns, values = _features(table, options, path)
    return table_dataset(path, values, columns, partition(classes, options), options.keep)


def _read(path: Path, options: DataOptions) -> Any:
    """Read the file as a `pyarrow.Table`; columns of classes and categories of a CSV are read as text."""
    import pyarrow  # takes a tenth of a second to import
    from pyarrow import csv, parquet

    if path.suffix not in (*_DELIMITERS, ".parquet"):
        raise DataError(f"{path}: dataset 'table' reads .csv, .tsv and .parquet files; save the table as one")
    if not path.is_file():
        raise DataError(f"{path}: no such file, seen from {Path.cwd()}; correct `path`")
    wanted = "save it anew"
    try:
        if path.suffix == ".parquet":
            return parquet.read_table(path, partitioning=None)  # folder names are not columns
        delimiter = _DELIMITERS[path.suffix]
        wanted = f"wanted UTF-8 text, a line of column names first, {delimiter!r} between values"
        roles = options.column_roles
        texts = dict.fromkeys(roles["one_hot"] + roles["label"], pyarrow.string())
        table = csv.read_csv(
            path,
            read_options=csv.ReadOptions(use_threads=False),  # so that errors name the row
            parse_options=csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
            convert_options=csv.ConvertOptions(column_types=texts),
        )
        list(table.column_names)  # decoded on access: names that are not UTF-8 fail here
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}; {wanted}") from error
    return table


def _without_dropped(table: Any, options: DataOptions, path: Path) -> Any:
    """Remove the dropped columns, after checking the names of all columns."""
    names: list[str] = table.column_names
    if len(names) == 1 and any(delimiter in names[0] for delimiter in ",;\t|"):
        raise DataError(
            f"{path}: its only column is called {names[0]!r}, so values are separated by "
            "something else than expected; save a .csv with commas, or a .tsv with tabs"
        )
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise DataError(f"{path}: column {twice[0]!r} is there {names.count(twice[0])} times; rename one")
    for option, chosen in options.column_roles.items():
        for name in chosen:
            if name not in names:
                near = difflib.get_close_matches(name, names, n=1, cutoff=0.0)[0]
                raise DataError(
                    f"{path}: {option} names {name!r}, but no column is called so; did you mean {near!r}? "
                    f"The columns are {named(names)}"
                )
    if all(_is_number(name) for name in names):
        raise DataError(
            f"{path}: the first line, {named(names)}, holds numbers where column names should be; put a "
            "line with names above it"
        )
    if not table.num_rows:
        raise DataError(f"{path} has column names but no rows; give it rows")
    table = table.drop_columns(list(options.drop))
    for name in table.column_names:
        if not 1 <= len(name) <= _LONGEST_NAME:
            raise DataError(
                f"{path}: the name of a column has {len(name)} characters ({name[:20]!r}), it may have 1 to "
                f'{_LONGEST_NAME}; rename it, or leave it out, e.g. by drop = [""] for one without a name'
            )
    return table


def _features(table: Any, options: DataOptions, path: Path) -> tuple[list[Column], Doubles]:
    """Return the columns, and their values as (rows, F), in the file's order."""
    columns, parts = [], []
    for name in table.column_names:
        if name == options.label:
            continue
        if name in options.one_hot:
            categories = classes_of(_texts(table[name], name, path))
            _check_categories(categories.names, name, path)
            columns.append(Column(name=name, categories=categories.names))
            parts.append(np.eye(len(categories.names))[categories.of_row])
        else:
            columns.append(Column(name=name))
            parts.append(_numbers(table[name], name, path)[:, None])
    if not columns:
        raise DataError(f"{path}: no columns are left to learn; drop fewer")
    return columns, np.concatenate(parts, axis=1)


def _numbers(column: Any, name: str, path: Path) -> Doubles:
    """Return a column's values (rows,) float64."""
    import pyarrow
    from pyarrow import types

    kind = column.type
    is_number = (types.is_integer, types.is_floating, types.is_boolean, types.is_decimal, types.is_null)
    if not any(is_one(kind) for is_one in is_number):
        example = next((repr(str(value.as_py()))[:60] for value in column if value.is_valid), "nothing")
        raise DataError(
            f"{path}: column {name!r} holds {kind}, e.g. {example}, not numbers; name it in "
            f"one_hot = [{name!r}] if it holds categories, or {way_out(name, path)}"
        )
    values: Doubles = column.cast(pyarrow.float64(), safe=False).to_numpy().astype(np.float64)
    check_numbers(values, name, path)
    return values


def _texts(column: Any, name: str, path: Path) -> list[str]:
    """Return the values of a column as text; empty ones are refused."""
    import pyarrow

    try:
        texts: list[str | None] = column.cast(pyarrow.string()).to_pylist()
    except (pyarrow.ArrowException, UnicodeDecodeError) as error:
        raise DataError(
            f"{path}: column {name!r} cannot be read as text: {error}; save it as text"
        ) from error
    missing = [row for row, text in enumerate(texts) if not text]
    if missing:
        raise DataError(
            f"{path}: column {name!r} has {len(missing)} missing values, the first in row {missing[0] + 1} "
            "(a header not counted); fill them in, remove these rows, or leave the column out"
        )
    return [text for text in texts if text]


def _check_categories(categories: tuple[str, ...], name: str, path: Path) -> None:
    if len(categories) == 1:
        raise DataError(
            f"{path}: column {name!r} is {categories[0]!r} in every row, which tells nothing; "
            f"{way_out(name, path)}"
        )
    if len(categories) > _MOST_CATEGORIES:
        raise DataError(
            f"{path}: column {name!r} has {len(categories)} categories, e.g. {categories[0]!r}; at most "
            f"{_MOST_CATEGORIES} become features. Merge the rare ones, or {way_out(name, path)}"
        )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
