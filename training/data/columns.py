"""Decides the role of each column of a table that nobody has described: number, category, class, or none."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final, Literal

import numpy as np

from service.media.tables.cells import MISSING, Code, is_number, kind_of, plain_values, texts_of
from service.numerics.noise import Doubles
from training.data.dataset import Rows
from training.data.features import LARGEST_MEAN
from training.data.reading import (
    DATE_ADVICE,
    FEW_CATEGORIES,
    LARGEST,
    MOST_CATEGORIES,
    PLAIN_ADVICE,
    NumberColumn,
    TextColumn,
    few_recur,
    is_date,
)
from training.data.splits import listed, named
from training.data.table_columns import MOST_GAPS, ascends

Role = Literal["number", "category", "class", "redundant", "unfit"]
"""`redundant`: repeats another column or the order of the rows; `unfit`: training refuses it."""

_CLASS_NAMES: Final = {
    "class", "label", "target", "y", "outcome", "diagnosis", "species", "anomaly", "outlier",
}  # fmt: skip
_ROWS_OF_A_CLASS: Final = 5
"""The fewest rows for each of the numbers of a column that are classes and not counts or measurements."""
_IDENTIFIER: Final = re.compile(
    r"(^|[\W_])(id|uuid|guid|key|index|idx|row|nr|no|number|serial)$", re.IGNORECASE
)
_IDENTIFIER_OF_MORE: Final = re.compile(r"(^|[\W_])(?i:id|uuid|guid)$|[a-z]I[dD]$")
"""Names of identifiers also where several rows have the same one, as in a table of visits or orders."""
_FEW_CODES: Final = 5
_MOST_MARKS: Final = 5
"""The largest number of distinct texts among numbers that are taken for marks of missing values."""
_NO_MARK: Final = re.compile(r"[^#]*\d")
"""Begins a text that says more than that a value is missing: `<0.1` and `12b`, but not `#DIV/0!`."""
_FEWEST_DATES: Final = 10
"""Below so many distinct numbers all may be dates by chance."""
_MONTH_AND_DAY: Final = r"(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])"
_DATES_IN_DIGITS: Final = [
    re.compile(form) for form in (rf"((19|20)\d\d|\d\d){_MONTH_AND_DAY}", r"(19|20)\d\d(0[1-9]|1[0-2])")
]
_MOST_SHOWN: Final = 3
_FAR_FROM_ALL: Final = 1e9
"""Stands for missing values where columns are compared."""
_SAMPLED_ROWS: Final = 1000
_CONSTANT: Final = "a change of it is an anomaly"
_IN_ORDER: Final = "drop it if it goes on so, as times do: later rows would be anomalies by it"
_REPEATED: Final = 1e-6
"""The largest difference, in standard deviations, between a column and another one that repeats it."""


@dataclass(frozen=True)
class ColumnRole:
    """The role of one column, and the reason."""

    name: str
    role: Role
    seen: str
    advice: str = ""
    categories: tuple[str, ...] = ()
    """The distinct values of a column of categories or classes, sorted."""
    codes: tuple[Code, ...] = ()
    """Values that stand for missing ones."""

    @property
    def features(self) -> int:
        """The number of values that the column adds to an item."""
        return {"number": 1, "category": len(self.categories)}.get(self.role, 0)


@dataclass
class _Kept:
    """The columns of numbers and of text so far, for comparisons with later ones."""

    numbers: defaultdict[int, list[tuple[str, Doubles]]] = field(default_factory=lambda: defaultdict(list))
    """Names and standardised values, (rows,), by the size of the first value, in steps of `_REPEATED`."""
    texts: dict[bytes, str] = field(default_factory=dict)
    """Names of columns by the first rows that have their rows' values, or lack one, too."""


def class_column(table: Mapping[str, Any]) -> str | None:
    """Return the first column of few distinct values with a name that classes usually have, or None."""
    for name, values in table.items():
        if name.casefold() in _CLASS_NAMES:
            texts = texts_of(values)
            distinct = {text for text in texts if text is not None}
            numbers = [float(text) for text in distinct if is_number(text)]
            most = min(FEW_CATEGORIES, len(texts) // _ROWS_OF_A_CLASS) if numbers else MOST_CATEGORIES
            few = 2 <= len(distinct) <= most and few_recur(len(distinct), len(texts))
            if few and None not in texts and all(number.is_integer() for number in numbers):
                return name
    return None


def names_are_a_row(table: Mapping[str, Any], decimal: str) -> bool:
    """Return True if the names of the columns look like a row: numbers, dates, or values of their columns.

    At least one is a number, and one the text of another row.
    """
    names = [name for name in table if name]
    numbers = [name for name in names if is_number(name, decimal)]
    others = [name for name in names if name not in numbers and not is_date(name)]
    return bool(numbers and others) and all(name in texts_of(table[name]) for name in others)


def column_roles(
    table: Mapping[str, Any], train: Rows, label: str | None = None, decimal: str = "."
) -> list[ColumnRole]:
    """Return the roles of the columns of a table, each a list of texts, a numpy array or an Arrow array.

    `train` are the rows of the training split; `label` names the column of classes.
    """
    kept = _Kept()
    return [
        _class(name, values) if name == label else _role(name, values, train, kept, decimal)
        for name, values in table.items()
    ]


def _class(name: str, values: Any) -> ColumnRole:
    column = TextColumn(name, ())
    column.add(values)
    names = column.names
    return ColumnRole(name, "class", f"{len(names)} classes: {named(names)}", categories=names)


def _role(name: str, values: Any, train: Rows, kept: _Kept, decimal: str) -> ColumnRole:
    reader = NumberColumn(name, decimal, ())
    numbers = reader.add(values)
    rows = len(numbers)
    if reader.missing.count == rows and not reader.misfit_texts and not reader.strange:
        return ColumnRole(name, "unfit", "no values")
    if reader.strange:
        advice = DATE_ADVICE if reader.strange.startswith("dates") else ""
        return ColumnRole(name, "unfit", reader.strange, advice)
    if reader.holds_marked_numbers:
        return ColumnRole(name, "unfit", f"numbers with marks: {reader.misfit_shown}", PLAIN_ADVICE)
    is_text = reader.misfit_texts and not reader.mostly_numbers
    if is_text or _has_leading_zeros(values) or _are_truth_values(values, numbers):
        return _text(name, values, reader, kept)
    codes: tuple[Code, ...] = ()
    if reader.misfit_texts:
        if len(reader.misfit_texts) > _MOST_MARKS or any(map(_NO_MARK.match, reader.misfit_texts)):
            seen = f"numbers, but {reader.misfits} of {rows} values are others, such as {reader.misfit_shown}"
            return ColumnRole(name, "unfit", seen, "correct them")
        codes = reader.misfit_texts
    if reader.infinite.count:
        codes = (*codes, *(code for code in (float("inf"), float("-inf")) if (numbers == code).any()))
    codes = (*codes, *reader.suspected)
    for code in codes:
        if not isinstance(code, str):
            numbers[numbers == code] = np.nan
    return _number(name, numbers, values, train, kept, codes)


@dataclass(frozen=True)
class _Numbers:
    """A column of numbers as all decisions on it see it."""

    name: str
    values: Doubles
    """(rows,), NaN where a value is missing."""
    there: Doubles
    """The values that are not missing."""
    learned: Doubles
    """Those of them in the training split."""
    distinct: Doubles
    """Sorted."""
    codes: tuple[Code, ...]

    @property
    def missing(self) -> int:
        return len(self.values) - len(self.there)

    @cached_property
    def are_whole(self) -> bool:
        return bool((self.there == np.round(self.there)).all())

    @property
    def is_identifier(self) -> bool:
        return self.are_whole and _IDENTIFIER_OF_MORE.search(self.name) is not None

    @cached_property
    def moments(self) -> tuple[float, float]:
        """Return mean and standard deviation of the learned values; they may be infinite."""
        with np.errstate(over="ignore"):
            return self.learned.mean(), self.learned.std()

    @property
    def seen(self) -> str:
        """Return how many values there are, from which to which, and how many are missing."""
        seen = f"{len(self.distinct)} values from {_plain(self.distinct[0])} to {_plain(self.distinct[-1])}"
        if not self.missing:
            return seen
        marks = f" (as {', '.join(map(_mark, self.codes))})" if self.codes else ""
        return f"{self.missing} of {len(self.values)} are missing{marks}; else {seen}"


def _number(
    name: str, values: Doubles, raw: Any, train: Rows, kept: _Kept, codes: tuple[Code, ...]
) -> ColumnRole:
    there, learned = values[~np.isnan(values)], values[train][~np.isnan(values[train])]
    if not len(learned):
        return ColumnRole(name, "unfit", f"{len(values) - len(there)} of {len(values)} values are missing")
    column = _Numbers(name, values, there, learned, np.unique(there), codes)
    if column.are_whole and _are_dates(column.distinct):
        return ColumnRole(name, "unfit", f"dates in digits, such as {there[0]:.0f}", DATE_ADVICE)
    return (
        _constant(column)
        or _name_of_rows(column, raw)
        or _constant_where_learned(column)
        or _beyond_float32(column)
        or _repetition(column, kept)
        or _learnable(column)
    )


def _constant(column: _Numbers) -> ColumnRole | None:
    if len(column.distinct) > 1 or column.missing:
        return None
    return ColumnRole(column.name, "number", f"{_plain(column.there[0])} in every row", _CONSTANT)


def _name_of_rows(column: _Numbers, raw: Any) -> ColumnRole | None:
    """Return the role of a column that numbers or names the rows, or several of them at a time."""
    name, rows, distinct = column.name, len(column.values), column.distinct
    counted = column.are_whole and not column.missing and len(distinct) == rows
    if column.are_whole and not column.missing and np.abs(column.there).max() >= 2**53:
        counted = len(set(texts_of(raw))) == rows  # too large for float64 to tell apart
    span = distinct[-1] - distinct[0]
    if counted and (span == rows - 1 or (ascends(column.values) and span < MOST_GAPS * rows)):
        return ColumnRole(name, "redundant", "numbers the rows")
    if counted and _IDENTIFIER.search(name):
        return ColumnRole(name, "redundant", "another whole number in every row: names the rows")
    if column.is_identifier and len(distinct) > FEW_CATEGORIES:
        return ColumnRole(name, "redundant", f"{len(distinct)} numbers under the name of an identifier")
    return None


def _constant_where_learned(column: _Numbers) -> ColumnRole | None:
    value = column.learned[0]
    if (column.learned != value).any():
        return None
    others = int((column.there != value).sum())
    where = f"all but {others} rows" if others else "every row that has it"
    return ColumnRole(column.name, "number", f"{_plain(value)} in {where}", _CONSTANT, codes=column.codes)


def _beyond_float32(column: _Numbers) -> ColumnRole | None:
    name, seen = column.name, column.seen
    mean, deviation = column.moments
    if np.abs(column.there).max() > LARGEST or deviation < 1 / LARGEST:
        return ColumnRole(name, "unfit", f"{seen}: float32 cannot hold them", "give it another unit")
    if abs(mean) > LARGEST_MEAN * deviation:
        return ColumnRole(name, "unfit", f"{seen}: float32 cannot tell them apart", f"subtract {mean:.9g}")
    return None


def _repetition(column: _Numbers, kept: _Kept) -> ColumnRole | None:
    """Return the role of a column that repeats a kept one; keep another."""
    mean, deviation = column.moments
    standardised = np.nan_to_num((column.values - mean) / deviation, nan=_FAR_FROM_ALL)
    first = int(abs(standardised[0]) / _REPEATED)
    alike = [each for near in (first - 1, first, first + 1) for each in kept.numbers.get(near, ())]
    if original := _repeats(standardised, alike):
        return ColumnRole(column.name, "redundant", f"repeats {original}, perhaps in another unit")
    kept.numbers[first].append((column.name, standardised))
    return None


def _learnable(column: _Numbers) -> ColumnRole:
    name, seen, codes, distinct = column.name, column.seen, column.codes, column.distinct
    if column.missing:
        return ColumnRole(name, "number", seen, "learned from the rows that have it", codes=codes)
    steps = np.diff(column.values)
    if 2 * len(distinct) > len(column.values) and ((steps >= 0).all() or (steps <= 0).all()):
        return ColumnRole(name, "number", f"{seen}, in order", _IN_ORDER, codes=codes)
    if np.array_equal(distinct, [0, 1]):
        return ColumnRole(name, "number", seen, "put it in one_hot if 1 means yes")
    few = column.are_whole and 2 < len(distinct) <= (FEW_CATEGORIES if column.is_identifier else _FEW_CODES)
    return ColumnRole(name, "number", seen, "put it in one_hot if these are codes" if few else "")


def _are_dates(distinct: Doubles) -> bool:
    """Return True if many whole numbers, in any order, are all days or months in one form of digits."""
    return len(distinct) >= _FEWEST_DATES and any(
        all(form.fullmatch(f"{number:.0f}") for number in distinct) for form in _DATES_IN_DIGITS
    )


def _are_truth_values(values: Any, numbers: Doubles) -> bool:
    """Return True if a column holds both truth values, as such or written out, and none of 0 and 1."""
    if not np.array_equal(np.unique(numbers[~np.isnan(numbers)]), [0, 1]):
        return False
    texts = (text for text in dict.fromkeys(texts_of(values)) if text is not None)
    return all(text.casefold() in ("true", "false") for text in texts)


def _has_leading_zeros(values: Any) -> bool:
    """Return True for digits in texts of one length, some of which begin with 0, as postal codes do."""
    if kind_of(values) != "text":
        return False
    texts = {value for value in plain_values(values) if isinstance(value, str)} - MISSING
    is_code = all(map(str.isdecimal, texts)) and len(set(map(len, texts))) == 1
    return is_code and any(text.startswith("0") and len(text) > 1 for text in texts)


def missing_words(values: Any) -> str:
    """Return what a column of texts calls missing values, in brackets: `None` may mean a category, too."""
    words = sorted(MISSING.intersection(plain_values(values)) - {""})
    return f" (as {', '.join(map(repr, words))})" if words else ""


def _plain(number: float) -> str:
    """Return a number with all digits if it is whole, as dates in digits are, else with six."""
    return f"{number:.15g}" if float(number).is_integer() else f"{number:g}"


def _mark(code: Code) -> str:
    return repr(code) if isinstance(code, str) else _plain(code)


def _text(name: str, values: Any, reader: NumberColumn, kept: _Kept) -> ColumnRole:
    column = TextColumn(name, ())
    codes, categories, lacking = column.add(values), column.names, column.missing.count
    if reader.holds_dates:
        return ColumnRole(name, "unfit", f"dates, such as {column.texts[0]!r}", DATE_ADVICE)
    missing = f"{lacking} of {column.rows} are missing{missing_words(values)}" if lacking else ""
    if len(categories) == 1:
        rows = f"one of the {column.rows - lacking} rows that have it; {missing}" if missing else "row"
        return ColumnRole(name, "unfit", f"{categories[0]!r} in every {rows}")
    if len(categories) == column.rows:
        return ColumnRole(name, "redundant", "another text in every row: names the rows")
    if not few_recur(len(categories), column.rows):
        return ColumnRole(name, "unfit", f"{len(categories)} different texts", "merge the rare ones")
    seen = f"{len(categories)} texts: {listed([*map(repr, categories)], _MOST_SHOWN)}"
    if missing:
        seen = f"{missing}; else {seen}"
    _, first, places = np.unique(codes, return_index=True, return_inverse=True)
    original = kept.texts.setdefault(first[places].tobytes(), name)
    if original != name:
        return ColumnRole(name, "redundant", f"repeats {original} in other words")
    return ColumnRole(name, "category", seen, categories=categories)


def _repeats(standardised: Doubles, others: Iterable[tuple[str, Doubles]]) -> str | None:
    """Return the name of another column that has these values, up to sign, scale and shift."""
    step = max(1, len(standardised) // _SAMPLED_ROWS)
    for name, other in others:
        for sign in (1, -1):
            if all(
                np.abs(standardised[rows] - sign * other[rows]).max() < _REPEATED
                for rows in (slice(None, None, step), slice(None))
            ):
                return name
    return None
