"""Makes a dataset of a table: checked numbers in their own units, and their standardisation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from service.format.columns import LARGEST_WHOLE, MOST_DECIMALS, Column, column_places
from service.numerics.noise import Doubles
from training.data.dataset import DataError, Dataset, Scaling
from training.data.duplicates import duplicates_note
from training.data.flaws import Flaws
from training.data.moments import Moments
from training.data.options import DataOptions
from training.data.reading import LARGEST, NumberColumn
from training.data.splits import Partition, listed

LARGEST_MEAN = 1e6
"""The largest |mean| in standard deviations; beyond it float32 has fewer than 16 steps per deviation."""
CONSTANT_SCALE = 1e-4
"""The scale assumed for a column that has one value in training: this part of the value; this for 0."""
_MOST_NAMED = 20


def table_dataset(
    path: Path, values: Doubles, columns: Sequence[Column], partition: Partition, options: DataOptions
) -> Dataset:
    """Make the dataset of values (rows, F), in the columns' own units, with its scaling.

    Categorical columns are zeros and ones, missing values NaN. The stem of `path` names the dataset. A column
    of numbers that has one value in the training split is kept: see `Scaling.constants`.

    Raises:
        DataError: A column of numbers has no values in the training split or does not fit float32, or no
            column varies.
    """
    moments = Moments(len(columns))
    for number, (_, place) in enumerate(column_places(columns)):
        moments.add_whole(number, values[:, place.start], partition.rows["train"])
    scaling = scaling_of(moments, columns, path)
    items = values.astype(np.float32)
    learned = np.concatenate(list(partition.rows.values()))
    return Dataset(
        name=path.stem,
        source=source_of(len(values), columns, path.name, options.keep),
        item_shape=items.shape[1:],
        class_names=partition.classes.names,
        items={split: items[rows] for split, rows in partition.rows.items()},
        labels=partition.labels,
        columns=bounded(columns, moments),
        scaling=scaling,
        outliers=None if partition.outliers is None else items[partition.outliers],
        notes=(*table_notes(columns, scaling, moments), *duplicates_note(values[learned], columns)),
        kind=options.dataset,
    )


def check_numbers(values: Doubles, flaws: Flaws, column: str, options: DataOptions) -> None:
    """Add what is wrong with values (rows,): infinite and too large ones, and missing ones if refused."""
    numbers = NumberColumn(column, ".", ())
    numbers.add(values)
    numbers.check(flaws, options)


def source_of(rows: int, columns: Sequence[Column], origin: str, keep: Sequence[str]) -> str:
    """Return the phrase for the model card."""
    categorical = sum(bool(column.categories) for column in columns)
    kinds = {"numeric": len(columns) - categorical, "categorical": categorical}
    counts = ", ".join(f"{count} {kind}" for kind, count in kinds.items() if count)
    kept = f"; kept classes: {', '.join(keep)}" if keep else ""
    return f"{rows} rows of {origin} (columns: {counts}{kept})"


def scaling_of(moments: Moments, columns: Sequence[Column], path: Path) -> Scaling:
    """Return the standardisation that follows from the moments of the columns.

    Raises:
        DataError: Columns have no values in the training split or do not fit float32, or no column varies.
    """
    features = sum(column.features for column in columns)
    shift, scale = np.zeros(features), np.ones(features)
    constants, masked = [], []
    flaws = Flaws(path)
    for number, (column, place) in enumerate(column_places(columns)):
        if moments.count[number] < moments.parts[0]:
            masked.append(place.start)
        name = column.name
        if not moments.count[number]:
            flaws.add(f"column {name!r} is without a value in the training split; fill it in", column.name)
        elif not column.categories and moments.low[number] == moments.high[number]:
            constants.append(place.start)
            value = moments.low[number]
            shift[place] = value
            scale[place] = max(CONSTANT_SCALE * abs(value), 1 / LARGEST) if value else CONSTANT_SCALE
        elif not column.categories:
            mean, deviation = moments.mean[number], moments.deviation[number]
            _check_spread(mean, deviation, column.name, flaws)
            shift[place], scale[place] = mean, deviation
    flaws.refuse()
    if len(constants) == features:
        raise DataError(
            f"{path}: every column has one value in all {moments.parts[0]} rows of the training split, so "
            "there is nothing to learn; give rows that differ"
        )
    takes_missing = bool(moments.missing.any()) or any(column.unseen == "missing" for column in columns)
    return Scaling(
        shift.astype(np.float32), scale.astype(np.float32), tuple(constants), takes_missing, tuple(masked)
    )


def bounded(columns: Sequence[Column], moments: Moments) -> tuple[Column, ...]:
    """Return the columns, those of numbers with the range and the decimals of their training rows."""
    made = []
    for number, column in enumerate(columns):
        known: dict[str, Any] = {}
        if not column.categories:
            low, high = float(moments.low[number]), float(moments.high[number])
            known["value_range"] = low, high
            decimals = int(moments.decimals[number])
            too_large = decimals == 0 and max(abs(low), abs(high)) > LARGEST_WHOLE
            if decimals <= MOST_DECIMALS and not too_large:
                known["decimals"] = decimals
        made.append(column.model_copy(update=known))
    return tuple(made)


def table_notes(columns: Sequence[Column], scaling: Scaling, moments: Moments) -> tuple[str, ...]:
    """Return sentences on the columns that do not vary, and on those that lack values."""
    return _constants_note(columns, scaling) + _missing_note(columns, moments)


def _constants_note(columns: Sequence[Column], scaling: Scaling) -> tuple[str, ...]:
    """Return a sentence that names the columns which do not vary, if there are any."""
    first = {place.start: column.name for column, place in column_places(columns)}
    texts = [f"{first[index]} ({scaling.shift[index]:g})" for index in scaling.constants]
    if not texts:
        return ()
    subject = "1 column has" if len(texts) == 1 else f"{len(texts)} columns have"
    return (
        f"{subject} one value in the whole training split: {listed(texts, _MOST_NAMED)}. The "
        f"networks do not see them; a VAE scores a change of one by a fixed density (Student's t with 2 "
        f"degrees of freedom, scale {CONSTANT_SCALE:g} of the value, or {CONSTANT_SCALE:g} where it is 0).",
    )


def _missing_note(columns: Sequence[Column], moments: Moments) -> tuple[str, ...]:
    """Return a sentence that names the columns that lack values, if there are any."""
    counts = zip(columns, moments.missing.tolist(), strict=True)
    texts = [f"{column.name} ({count})" for column, count in counts if count]
    if not texts:
        return ()
    return (
        f"Of {moments.rows} rows some lack values: {listed(texts, _MOST_NAMED)}. They are learned from what "
        "they hold; a score is that of the values that are there.",
    )


def _check_spread(mean: float, deviation: float, column: str, flaws: Flaws) -> None:
    if deviation < 1 / LARGEST:
        flaws.add(
            f"column {column!r} has a standard deviation of {deviation:g}, which float32 cannot hold; give "
            "the column another unit",
            column,
        )
    elif abs(mean) > LARGEST_MEAN * deviation:
        flaws.add(
            f"column {column!r} has a mean of {mean:g} but a standard deviation of {deviation:g}: float32 "
            f"cannot tell its values apart; subtract {mean:.9g} from the column",
            column,
        )
