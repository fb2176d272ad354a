"""Tables as text: items under the names of their columns, and CSV. Shapes: B rows, F features."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.format.columns import TRUTH_VALUES
from service.numerics.noise import Floats

Column = NDArray[Any] | Sequence[Any]
"""Values (B,) of a column."""


def columns_of(
    items: Floats, columns: Mapping[str, Sequence[str]], whole: Collection[str] = ()
) -> dict[str, NDArray[Any]]:
    """Return items (B, F) as columns (B,) by name: numbers, and the name of the most probable category.

    `columns` has the categories of each column, none for numbers. A missing value is NaN or, of a category,
    None. The columns named in `whole` become integers or truth values: all their values, or names of
    categories, are such.
    """
    table: dict[str, NDArray[Any]] = {}
    start = 0
    for name, categories in columns.items():
        features = items[:, start : start + (len(categories) or 1)]
        names = np.array((*categories, None), object)
        places = np.where(np.isnan(features[:, 0]), len(categories), features.argmax(axis=1))
        chosen = names[places] if categories else features[:, 0]
        table[name] = whole_values(chosen, categories) if name in whole else chosen
        start += features.shape[1]
    return table


def whole_values(column: NDArray[Any], categories: Sequence[str]) -> NDArray[Any]:
    """Return a column (B,) of whole numbers, or of categories that name such or truth values, as those."""
    values: NDArray[Any] = (
        column == "true" if TRUTH_VALUES.intersection(categories) else column.astype(np.int64)
    )
    return values


def numbered_columns(arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Return arrays (B, ...) as columns (B,), whose names are numbered from 0."""
    flat = {name: array.reshape(len(array), -1) for name, array in arrays.items()}
    return {f"{name}-{place}": column for name, array in flat.items() for place, column in enumerate(array.T)}


def csv_text(table: Mapping[str, Column], *, with_names: bool = True) -> str:
    """Return columns (B,) as CSV: numbers in no more digits than needed; null and NaN are empty."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    if with_names:
        writer.writerow(table)
    writer.writerows(zip(*map(_cells, table.values()), strict=True))
    return text.getvalue()


def _cells(column: Column) -> Sequence[Any]:
    if isinstance(column, np.ndarray) and column.dtype == np.float32:
        return [*map(_digits, column)]
    if isinstance(column, np.ndarray) and column.dtype == np.float64:
        return ["" if math.isnan(value) else value for value in column.tolist()]
    values: Sequence[Any] = column.tolist() if isinstance(column, np.ndarray) else column
    if any(isinstance(value, bool) for value in values):
        return [str(value).lower() if isinstance(value, bool) else value for value in values]
    return values


def _digits(number: np.float32) -> str:
    text = str(number)
    if "e+" in text:  # numpy writes 1000000 as 1e+06
        text = repr(float(text))
    return "" if text == "nan" else text.removesuffix(".0")
