"""Tables of any origin, as a dataset: checked numbers in their own units, and how each is scaled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from service.format.manifest import Column
from training.data.dataset import DataError, Dataset, Labels, Scaling
from training.data.splits import Partition

Values = npt.NDArray[np.float64]
WayOut = Callable[[str], str]
"""From a column's name to what can be done without it, for messages."""

LARGEST = 1e30
"""Of a value, and 1 over it the smallest spread: beyond these, float32 overflows or loses digits."""
LARGEST_MEAN = 1e6
"""Of |mean| in standard deviations: beyond it, float32 has fewer than 16 steps to a standard deviation."""


def table_dataset(
    path: Path,
    source: str,
    values: Values,
    columns: Sequence[Column],
    partition: Partition,
    way_out: WayOut,
) -> Dataset:
    """The dataset of values (rows, F), in the columns' own units, with its scaling.

    Args:
        path: Where the table came from; its stem names the dataset.
        source: The phrase for the model card.
        values: Numbers, and zeros and ones for the features of categorical columns.
        columns: What the F features are, in order.
        partition: The rows of every split.
        way_out: How to do without a column.

    Raises:
        DataError: A column of numbers is constant in the training split, or does not fit float32.
    """
    scaling = _fit(values[partition.rows["train"]], columns, str(path), way_out)
    items = values.astype(np.float32)
    return Dataset(
        name=path.stem,
        source=source,
        item_shape=items.shape[1:],
        class_names=partition.class_names,
        items={split: items[rows] for split, rows in partition.rows.items()},
        labels=partition.labels,
        columns=tuple(columns),
        scaling=scaling,
        outliers=None if partition.outliers is None else items[partition.outliers],
    )


def check_numbers(values: Values, column: str, where: str, way_out: WayOut) -> None:
    """Refuse values (rows,) that are missing (NaN), infinite or huge.

    Raises:
        DataError: Naming the column, the first such row (from 1, a header not counted) and their number.
    """
    missing = np.flatnonzero(~np.isfinite(values))
    if len(missing):
        raise DataError(
            f"{where}: column {column!r} has {len(missing)} missing or non-finite values, the first in row "
            f"{missing[0] + 1} (a header not counted); fill them in, remove these rows, or {way_out(column)}"
        )
    huge = np.flatnonzero(np.abs(values) > LARGEST)
    if len(huge):
        raise DataError(
            f"{where}: column {column!r} has {len(huge)} values beyond {LARGEST:g}, the first in row "
            f"{huge[0] + 1}: float32 cannot hold them; give the column another unit, or {way_out(column)}"
        )


def one_hot(places: Labels, categories: int) -> Values:
    """(rows, categories) zeros, and a 1 at each row's place."""
    values = np.zeros((len(places), categories))
    values[np.arange(len(places)), places] = 1
    return values


def table_source(rows: int, columns: Sequence[Column], origin: str, keep: Sequence[str]) -> str:
    """The phrase for the model card."""
    categorical = sum(bool(column.categories) for column in columns)
    kinds = {"numeric": len(columns) - categorical, "categorical": categorical}
    counts = ", ".join(f"{count} {kind}" for kind, count in kinds.items() if count)
    kept = f"; kept classes: {', '.join(keep)}" if keep else ""
    return f"{rows} rows of {origin} (columns: {counts}{kept})"


def _fit(train: Values, columns: Sequence[Column], where: str, way_out: WayOut) -> Scaling:
    shift, scale = np.zeros(train.shape[1]), np.ones(train.shape[1])
    feature = 0
    for column in columns:
        if not column.categories:
            values = train[:, feature]
            _check_spread(values, column.name, where, way_out)
            shift[feature], scale[feature] = values.mean(), values.std()
        feature += column.features
    return Scaling(shift.astype(np.float32), scale.astype(np.float32))


def _check_spread(train: Values, column: str, where: str, way_out: WayOut) -> None:
    if train.min() == train.max():
        raise DataError(
            f"{where}: column {column!r} is constant, {train[0]:g} in all {len(train)} rows of the training "
            f"split: a constant has no density; {way_out(column)}"
        )
    mean, deviation = train.mean(), train.std()
    if deviation < 1 / LARGEST:
        raise DataError(
            f"{where}: column {column!r} has a standard deviation of {deviation:g}, which float32 cannot "
            f"hold; give the column another unit, or {way_out(column)}"
        )
    if abs(mean) > LARGEST_MEAN * deviation:
        raise DataError(
            f"{where}: column {column!r} has a mean of {mean:g} but a standard deviation of {deviation:g}: "
            f"float32 cannot tell its values apart; subtract {mean:.9g} from the column, or {way_out(column)}"
        )
