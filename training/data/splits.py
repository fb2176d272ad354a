"""Splits the rows of the user's data, and leaves out the classes that are not kept."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Sized
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from training.data.dataset import SPLITS, DataError, Labels, Rows, Split
from training.data.options import DataOptions

_FEWEST_ROWS = 2
"""The fewest rows of a split: a standard deviation needs two."""
_MOST_NAMED = 10
MOST_HELD_OUT_ROWS: Final = 20_000
"""Most rows of each part but `train` of data larger than memory: they resolve p-values of 1 / 20 001."""


@dataclass(frozen=True)
class Classes:
    """The class of every row."""

    names: tuple[str, ...]
    """Empty if the rows have no classes."""
    of_row: Labels
    """(rows,), indices into `names`; all 0 without classes."""


def no_classes(rows: int) -> Classes:
    """Return the classes of rows that have none."""
    return Classes((), np.zeros(rows, np.int64))


@dataclass(frozen=True)
class Partition:
    """The row numbers of every split."""

    rows: Mapping[Split, Rows]
    classes: Classes
    """The class of every row, with the names of the kept classes only."""
    outliers: Rows | None = None
    """Rows of the classes that are not kept; None if all are."""

    @property
    def labels(self) -> dict[Split, Labels]:
        """The class of each row, per split."""
        return {split: self.classes.of_row[rows] for split, rows in self.rows.items()}


def in_order(names: Iterable[str]) -> list[str]:
    """Return the distinct names, sorted by value if all are whole numbers, else as text."""
    distinct = sorted(set(names))
    numbers = all(name.isascii() and name.isdigit() for name in distinct)
    return sorted(distinct, key=int) if numbers else distinct


def classes_of(texts: Sequence[str]) -> Classes:
    """Return the classes of rows, from the name of each row's class."""
    names = in_order(texts)
    place = {name: index for index, name in enumerate(names)}
    return Classes(tuple(names), np.array([place[text] for text in texts], np.int64))


def class_numbers(given: npt.NDArray[Any], names: Sequence[str], rows: int) -> Labels | None:
    """Return the classes (rows,) that are given as numbers from 0 or by name, as numbers; None if not so."""
    numbers = given
    if given.dtype.kind == "U":
        place = {name: number for number, name in enumerate(names)}
        numbers = np.array([place.get(name, -1) for name in given.ravel().tolist()]).reshape(given.shape)
    fits = numbers.shape == (rows,) and numbers.dtype.kind in "iu"
    return numbers.astype(np.int64) if fits and np.isin(numbers, range(len(names))).all() else None


def lacking(labels: Labels, names: Sequence[str]) -> list[str]:
    """Return the names of the classes that none of the labels (rows,) is of."""
    counts = np.bincount(labels, minlength=len(names))
    return [name for name, count in zip(names, counts, strict=True) if not count]


def listed(texts: Sequence[str], most: int) -> str:
    """List the first texts for a message, and the number of the others."""
    more = f" and {len(texts) - most} more" if len(texts) > most else ""
    return ", ".join(texts[:most]) + more


def named(names: Sequence[str]) -> str:
    """List the first ten names for a message."""
    return listed([*map(repr, names)], _MOST_NAMED)


def partition(classes: Classes, options: DataOptions, test: Rows | None = None) -> Partition:
    """Split the user's rows at random, by `split_seed`; only rows of kept classes, if any are named.

    The rows of `test` that are kept are the test split, unless these are fewer than two.

    Raises:
        DataError: A class to keep does not occur, or a split has fewer than two rows.
    """
    where = str(options.own_path)
    rows, outliers = np.arange(len(classes.of_row)), None
    if options.keep:
        rows, outliers, classes = _kept(classes, options.keep, where)
    order = np.random.default_rng(options.split_seed).permutation(rows)
    shares = (options.validation_share, options.calibration_share, options.test_share)
    given = np.isin(order, [] if test is None else test)
    if given.sum() >= _FEWEST_ROWS:
        shares, tested, order = (*shares[:2], 0.0), order[given], order[~given]
    else:
        tested = order[:0]
    ends = np.cumsum([round(share * len(order)) for share in shares])
    validation, calibration, drawn, train = np.split(order, ends)
    result: dict[Split, Rows] = {
        "train": train, "validation": validation, "calibration": calibration,
        "test": np.concatenate([tested, drawn]),
    }  # fmt: skip
    check_sizes(result, where)
    return Partition(result, classes, outliers)


def published_partition(
    order: Rows, test: Rows, held_out: int, classes: Classes, keep: Sequence[str], where: str
) -> Partition:
    """Split `order` into `held_out` rows of validation, as many of calibration, and the rest to train on.

    Of the classes that are not kept, the rows of `test` become the outliers, and other rows are left out. An
    empty `keep` keeps all classes; `where` names the dataset in messages.

    Raises:
        DataError: A class to keep does not occur, or a split has fewer than two rows left.
    """
    validation, calibration, train = np.split(order, [held_out, 2 * held_out])
    rows: dict[Split, Rows] = {
        "validation": validation, "calibration": calibration, "train": train, "test": test,
    }  # fmt: skip
    if not keep:
        return Partition(rows, classes)
    kept, _, classes = _kept(classes, keep, where)
    rows = {split: each[np.isin(each, kept)] for split, each in rows.items()}
    check_sizes(rows, where)
    return Partition(rows, classes, outliers=test[~np.isin(test, kept)])


def check_sizes(rows: Mapping[Split, Sized], where: str) -> None:
    """Refuse splits of fewer than two rows, by a DataError that names the sizes of all splits."""
    if min(map(len, rows.values())) < _FEWEST_ROWS:
        sizes = ", ".join(f"{split} {len(rows[split])}" for split in SPLITS)
        total = sum(map(len, rows.values()))
        raise DataError(
            f"{where}: {total} rows make splits of {sizes}; each needs at least {_FEWEST_ROWS}. "
            "Give more rows, or raise that split's share"
        )


def cut_notes(counts: Iterable[tuple[str, int]], most: int, what: str) -> list[str]:
    """Return a sentence on the held-out parts, of those sizes, of which only `most` rows are used."""
    cut = [f"{part} {count}" for part, count in counts if part != "train" and count > most]
    return [f"Of the held-out {what} ({', '.join(cut)}) {most} each are used."] if cut else []


def _kept(classes: Classes, keep: Sequence[str], where: str) -> tuple[Rows, Rows, Classes]:
    if not classes.names:
        raise DataError(
            f"{where}: keep = {list(keep)} came, but the items have no classes; leave keep out, or give "
            "labels: the key `labels` of an .npz without splits, or one sub-folder of pictures per class"
        )
    names = kept_classes(classes.names, keep, where)
    place = {classes.names.index(name): index for index, name in enumerate(names)}
    of_row = np.array([place.get(index, -1) for index in range(len(classes.names))], np.int64)[classes.of_row]
    return np.flatnonzero(of_row >= 0), np.flatnonzero(of_row < 0), Classes(names, of_row)


def kept_classes(names: Sequence[str], keep: Sequence[str], where: str) -> tuple[str, ...]:
    """Return the names of classes that are kept, in order; truth values in any case.

    Raises:
        DataError: A class to keep does not occur.
    """
    keep = [name if name in names else name.casefold() for name in keep]
    unknown = [name for name in keep if name not in names]
    if unknown:
        raise DataError(
            f"{where}: no row has the class {unknown[0]!r} of keep; the classes are {named(names)}"
        )
    return tuple(name for name in names if name in keep)
