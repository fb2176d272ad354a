"""The rule by which the values of a column become numbers or categories, wherever they came from.

A column is a list of texts (of CSV), a numpy array (of a DataFrame, or of records) or an Arrow array (of
Parquet). Arrow's arrays are recognised by their methods, so that nothing here imports pyarrow.
"""

from __future__ import annotations

import contextlib
import decimal as decimals
import re
from collections.abc import Collection, Iterable, Sequence
from datetime import date, datetime, time, timedelta
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from service.errors import Unfit

if TYPE_CHECKING:  # the module makes noise, which the client needs not
    from service.numerics.noise import Doubles


MISSING: Final = frozenset(
    ("", "#N/A", "#N/A N/A", "#NA", "-NaN", "-nan", "<NA>", "N/A", "NA", "NULL", "NaN", "NaT", "None")
) | {"n/a", "nan", "null"}
"""The texts of CSV cells without a value: those that pandas and Arrow take for missing."""
_INFINITE: Final = ("inf", "-inf")
"""Codes that are numbers, written as texts because JSON has no infinities."""
_TRUTH: Final = {"true": 1.0, "false": 0.0}
_NUMBER: Final = re.compile(
    r"[+-]?(\d++\.?+\d*+|\.\d++)([eE][+-]?\d++)?|[+-]?(inf|infinity|nan)", re.IGNORECASE
)
"""It never goes back: a long row of digits before a letter would take the square of its length."""
_DATE: Final = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_FLOATS: Final = {"halffloat": np.float16, "float": np.float32, "double": np.float64}
"""The floats of Arrow that numpy has."""
_MOST_MISFITS: Final = 1000
"""The largest number of values that are no numbers that are kept with their rows; all are counted."""
LONGEST_SHOWN: Final = 40

UNKNOWN, ABSENT = -1, -2
"""The places of a text that is no category, and of a missing one."""

Code = str | float
"""A value that stands for a missing one: a text, or a number such as 999999999."""


class Numbers(NamedTuple):
    """A column as numbers."""

    values: Doubles
    """(rows,); missing ones, and those that are no numbers, are NaN."""
    misfits: int
    """The number of values that are no numbers."""
    examples: dict[int, str]
    """The first values that are no numbers, by their rows from 0."""


def is_number(text: str, decimal: str = ".") -> bool:
    """Return True if a text is a number with that decimal mark."""
    text = text.strip()
    if decimal != ".":
        if "." in text:
            return False
        text = text.replace(decimal, ".")
    return _NUMBER.fullmatch(text) is not None


def numbers_of(values: Any, decimal: str = ".", codes: Collection[Code] = ()) -> Numbers:
    """Read a column as numbers: float64, truth values as 1 and 0, missing ones and `codes` as NaN."""
    values = _as_array_or_texts(values)
    if isinstance(values, np.ndarray) and values.dtype.kind in "fiub":
        read = Numbers(values.astype(np.float64), 0, {})
    else:
        read = _numbers_of_texts(values, decimal, codes)
    # a code is rounded as the column is: -99.9 of float32 is another number than that of float64
    is_single = isinstance(values, np.ndarray) and values.dtype == np.float32
    for code in codes:
        if not isinstance(code, str) or code in _INFINITE:
            with np.errstate(over="ignore"):
                number = np.float32(code) if is_single else float(code)
            read.values[read.values == number] = np.nan
    return read


def texts_of(values: Any, codes: Collection[Code] = ()) -> list[str | None]:
    """Read a column as categories: texts by the rule of `category_text`; None where the value is missing."""
    values = _as_array_or_texts(values)
    absent = {category_text(code) for code in codes}
    if isinstance(values, np.ndarray):
        if values.dtype.kind == "M":  # a list of nanoseconds has whole numbers
            values = values.astype("M8[us]")
        values = _shortest(values).tolist()
    if all(type(value) is str for value in values):
        return [None if value in MISSING or value in absent else value for value in values]
    found = [None if _is_missing(value) else category_text(value) for value in values]
    return [None if text in MISSING or text in absent else text for text in found]


def _shortest(values: NDArray[Any]) -> NDArray[Any]:
    """Return floats of less than double precision as the double of their shortest decimal: 0.1 is 0.1."""
    short = values.dtype.kind == "f" and values.dtype.itemsize < np.dtype(np.float64).itemsize
    return values.astype(np.str_).astype(np.float64) if short else values


def category_text(value: Any) -> str:
    """Return the name of a category: 1.0 is `1`, True is `true`, all else its text."""
    if isinstance(value, bool | np.bool_):
        return str(value).lower()
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return str(value)


def truth_names(texts: Sequence[str | None]) -> list[str | None]:
    """Write truth values alike, `true` and `false`, if the column holds nothing else."""
    distinct = {text for text in texts if text is not None}
    if distinct and all(text.casefold() in _TRUTH for text in distinct):
        return [None if text is None else text.casefold() for text in texts]
    return list(texts)


class Places:
    """The place of each category among those of a column: by its text, else by the value that it writes.

    Numbers among the `codes` are found by their value, too, unless it is that of a category.
    """

    def __init__(self, categories: Sequence[str], codes: Iterable[Code] = ()) -> None:
        self._known: dict[str | None, int] = {name: place for place, name in enumerate(categories)}
        meanings = [_meaning(category) for category in categories]
        numbers = [code for code in codes if not isinstance(code, str)]
        self._meant = {_meaning(category_text(code)): ABSENT for code in numbers} | {
            meaning: place for place, meaning in enumerate(meanings) if meanings.count(meaning) == 1
        }

    def find(self, texts: Iterable[str | None]) -> NDArray[np.int64]:
        """Return the place of each text, (rows,): `UNKNOWN` if it is no category, `ABSENT` for none."""
        texts, known = list(texts), self._known
        places = {text: known[text] if text in known else self._look_up(text) for text in set(texts)}
        return np.array([places[text] for text in texts], np.int64)

    def _look_up(self, text: str | None) -> int:
        if text is None:
            return ABSENT
        return self._meant.get(_meaning(text), UNKNOWN)


def _meaning(text: str) -> str | float | datetime:
    """Return a truth value, number or time for the text that writes it, else the text without blanks around.

    A date is its midnight: tables write midnights as dates if a column has nothing else.
    """
    text = text.strip()
    folded = text.casefold()
    if folded in _TRUTH:
        return folded
    if _NUMBER.fullmatch(folded) and folded.isascii():
        return float(folded)
    with contextlib.suppress(ValueError):
        return datetime.fromisoformat(text) if _DATE.match(text) else text
    return text


def _as_array_or_texts(values: Any) -> Any:
    """Return a column as a numpy array, or as a list of texts and None."""
    if isinstance(values, list | tuple | np.ndarray):
        return values
    if not hasattr(values, "to_pylist"):  # not Arrow's
        return np.asarray(values)
    kind = str(values.type)
    if kind == "bool":  # with the missing ones in a float64, true would be 1, which is another category
        return np.array(values.to_pylist(), object if values.null_count else np.bool_)
    if values.null_count and re.match(r"u?int|float|double|halffloat", kind):
        found = [np.nan if value is None else value for value in values.to_pylist()]
        return np.array(found, _FLOATS.get(kind, np.float64))
    if re.match(r"u?int|float|double|halffloat", kind):
        # `np.asarray` would import pandas where it is installed, for half a second
        return np.from_dlpack(values.combine_chunks() if hasattr(values, "combine_chunks") else values)
    return plain_values(values)


def plain_values(values: Any) -> list[Any]:
    """Return a column as a list; rows that share an entry of Arrow's dictionary share its object.

    Raises:
        Unfit: Python has no such values, as dates after the year 9999.
    """
    if not hasattr(values, "to_pylist"):
        return list(values)
    if not str(values.type).startswith("dictionary"):
        return _python_values(values)
    rows = list[Any]()
    for part in getattr(values, "chunks", [values]):
        entries = _python_values(part.dictionary)
        rows += [None if place is None else entries[place] for place in part.indices.to_pylist()]
    return rows


def _python_values(values: Any) -> list[Any]:
    try:
        found: list[Any] = values.to_pylist()
    except (ValueError, OverflowError, LookupError) as error:  # also of a time zone that nobody knows
        raise Unfit(
            f"a column of {values.type} holds values that cannot be read ({error}); save it as text"
        ) from error
    if (kind := _FLOATS.get(str(values.type), np.float64)) is not np.float64:
        return [None if value is None else float(str(kind(value))) for value in found]
    return found


def _numbers_of_texts(values: Any, decimal: str, codes: Collection[Code]) -> Numbers:
    texts = values.tolist() if isinstance(values, np.ndarray) else list(values)
    absent = MISSING.union(code for code in codes if isinstance(code, str))
    kinds = set(map(type, texts))
    if kinds <= {float, int}:
        with contextlib.suppress(OverflowError):  # of whole numbers beyond float64
            return Numbers(np.array(texts, np.float64), 0, {})
    if decimal == "." and kinds == {str}:
        try:  # a hundred times as fast as one by one
            plain = ["nan" if text in absent else text for text in texts]
            if not any("_" in text for text in set(plain)):
                return Numbers(np.array(plain, np.float64), 0, {})
        except ValueError:
            pass
    numbers = np.full(len(texts), np.nan)
    misfits, examples = 0, dict[int, str]()
    written = {text: _number(text, decimal, absent) for text in {text for text in texts if type(text) is str}}
    for row, value in enumerate(texts):
        number = written[value] if type(value) is str else _number(value, decimal, absent)
        if number is None:
            misfits += 1
            if len(examples) < _MOST_MISFITS:
                examples[row] = str(value)[:LONGEST_SHOWN]
        else:
            numbers[row] = number
    return Numbers(numbers, misfits, examples)


def _number(value: Any, decimal: str, absent: Collection[str]) -> float | None:
    """Return the number that a value is or writes, NaN for a missing one, or None if it is no number."""
    if isinstance(value, str):
        text = value.strip()
        if text in absent or value in absent:
            return float("nan")
        if text.casefold() in _TRUTH:
            return _TRUTH[text.casefold()]
        return float(text.replace(decimal, ".")) if is_number(text, decimal) else None
    if _is_missing(value):
        return float("nan")
    if isinstance(value, bool | int | float | np.number | np.bool_ | decimals.Decimal):
        try:
            return float(value)
        except OverflowError:
            return float("inf")
    return None


def _is_missing(value: Any) -> bool:
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(value, float | np.floating) and bool(np.isnan(value))


def kind_of(values: Any) -> str:
    """Return `number`, `text`, `date`, `list` or `other` for the values of a column, by their types."""
    if hasattr(values, "to_pylist") and hasattr(values, "type"):
        return _arrow_kind(values.type)
    if isinstance(values, np.ndarray) and values.dtype.kind != "O":
        return {"M": "date", "m": "date", "U": "text", "S": "other"}.get(values.dtype.kind, "number")
    for value in values:
        if _is_missing(value):
            continue
        if isinstance(value, str):
            return "text"
        if isinstance(value, date | datetime | time | timedelta):
            return "date"
        if isinstance(value, list | tuple | dict | np.ndarray):
            return "list"
        return "number" if _number(value, ".", ()) is not None else "other"
    return "number"


def _arrow_kind(type_: Any) -> str:
    kind = str(type_)
    if kind.startswith("dictionary"):
        return _arrow_kind(type_.value_type)
    for name, pattern in {
        "number": r"u?int|float|double|halffloat|bool|decimal|null",
        "text": r"string|large_string|string_view",
        "date": r"date|time|duration",
        "list": r"list|large_list|fixed_size_list|struct|map",
    }.items():
        if re.match(pattern, kind):
            return name
    return "other"
