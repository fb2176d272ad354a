"""Makes a dataset of a table: checked numbers in their own units, and their standardisation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from service.format.manifest import Column, column_places
from service.numerics.noise import Doubles
from training.data.dataset import DataError, Dataset, Scaling
from training.data.splits import Partition

_LARGEST = 1e30
"""The largest value, and 1 over it the smallest standard deviation, that float32 holds without loss."""
_LARGEST_MEAN = 1e6
"""The largest |mean| in standard deviations; beyond it float32 has fewer than 16 steps per deviation."""


def table_dataset(
    path: Path, values: Doubles, columns: Sequence[Column], partition: Partition, keep: Sequence[str]
) -> Dataset:
    """Make the dataset of values (rows, F), in the columns' own units, with its scaling.

    Categorical columns are zeros and ones. The stem of `path` names the dataset; `keep` the kept classes.

    Raises:
        DataError: A column of numbers is constant in the training split, or does not fit float32.
    """
    scaling = _fit(values[partition.rows["train"]], columns, path)
    items = values.astype(np.float32)
    return Dataset(
        name=path.stem,
        source=_source(len(values), columns, path.name, keep),
        item_shape=items.shape[1:],
        class_names=partition.classes.names,
        items={split: items[rows] for split, rows in partition.rows.items()},
        labels=partition.labels,
        columns=tuple(columns),
        scaling=scaling,
        outliers=None if partition.outliers is None else items[partition.outliers],
    )


def way_out(column: str, path: Path) -> str:
    """Return the advice that ends an error message: how a column of that file is left out."""
    if path.suffix in (".npy", ".npz"):
        number = column.rpartition("-")[2]
        return f"leave out items[:, {number}] (or, if rows are pictures, reshape them to (N, H, W))"
    return f"leave it out with drop = [{column!r}]"


def check_numbers(values: Doubles, column: str, path: Path) -> None:
    """Refuse values (rows,) that are missing (NaN), infinite or too large.

    Raises:
        DataError: Naming the column, the number of such rows and the first (from 1, without the header).
    """
    advice = way_out(column, path)
    missing = np.flatnonzero(~np.isfinite(values))
    if len(missing):
        raise DataError(
            f"{path}: column {column!r} has {len(missing)} missing or non-finite values, the first in row "
            f"{missing[0] + 1} (a header not counted); fill them in, remove these rows, or {advice}"
        )
    huge = np.flatnonzero(np.abs(values) > _LARGEST)
    if len(huge):
        raise DataError(
            f"{path}: column {column!r} has {len(huge)} values beyond {_LARGEST:g}, the first in row "
            f"{huge[0] + 1}: float32 cannot hold them; give the column another unit, or {advice}"
        )


def _source(rows: int, columns: Sequence[Column], origin: str, keep: Sequence[str]) -> str:
    """Return the phrase for the model card."""
    categorical = sum(bool(column.categories) for column in columns)
    kinds = {"numeric": len(columns) - categorical, "categorical": categorical}
    counts = ", ".join(f"{count} {kind}" for kind, count in kinds.items() if count)
    kept = f"; kept classes: {', '.join(keep)}" if keep else ""
    return f"{rows} rows of {origin} (columns: {counts}{kept})"


def _fit(train: Doubles, columns: Sequence[Column], path: Path) -> Scaling:
    shift, scale = np.zeros(train.shape[1]), np.ones(train.shape[1])
    for column, place in column_places(columns):
        if not column.categories:
            values = train[:, place.start]
            _check_spread(values, column.name, path)
            shift[place], scale[place] = values.mean(), values.std()
    return Scaling(shift.astype(np.float32), scale.astype(np.float32))


def _check_spread(train: Doubles, column: str, path: Path) -> None:
    advice = way_out(column, path)
    if train.min() == train.max():
        raise DataError(
            f"{path}: column {column!r} is constant, {train[0]:g} in all {len(train)} rows of the training "
            f"split: a constant has no density; {advice}"
        )
    mean, deviation = train.mean(), train.std()
    if deviation < 1 / _LARGEST:
        raise DataError(
            f"{path}: column {column!r} has a standard deviation of {deviation:g}, which float32 cannot "
            f"hold; give the column another unit, or {advice}"
        )
    if abs(mean) > _LARGEST_MEAN * deviation:
        raise DataError(
            f"{path}: column {column!r} has a mean of {mean:g} but a standard deviation of {deviation:g}: "
            f"float32 cannot tell its values apart; subtract {mean:.9g} from the column, or {advice}"
        )
