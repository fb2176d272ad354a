"""The columns of a table, fitted by name to those of a model: features of rows, or all that is wrong."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from service.errors import Flaw, Unfit
from service.media.tables.cells import ABSENT, UNKNOWN, Code, Places, kind_of, numbers_of, texts_of

if TYPE_CHECKING:  # the module makes noise, which the client needs not
    from service.numerics.noise import Floats

MOST_NAMED: Final = 16
_MOST_CLASSES: Final = 12
_LONGEST_CLASS: Final = 200
_LONGEST_NAME: Final = 200
"""The largest number of characters of a name that are shown."""
_NO_NAME: Final = re.compile(r"\s*|Unnamed: \d+(_level_\d+)?")
"""The names of an index, or of columns that a spreadsheet leaves behind: none, or a number by pandas."""


def has_no_name(column: str) -> bool:
    """Return True if the name of a column is none: it is blank, or one by which pandas reads a blank one."""
    return _NO_NAME.fullmatch(column) is not None


@dataclass(frozen=True)
class TableForm:
    """The table that a model takes: its columns, and the reading of the table that it was trained on."""

    columns: Mapping[str, tuple[str, ...]]
    """The categories of each column by its name, in the order of the features; none for numbers."""
    decimal: str = "."
    """The decimal mark of numbers in text."""
    codes: Mapping[str, tuple[Code, ...]] = field(default_factory=dict)
    """Values that stand for missing ones, by column."""
    unseen: Mapping[str, str] = field(default_factory=dict)
    """The treatment of categories that a column does not have: `other`, `missing`; `refuse` if not named."""
    left_out: frozenset[str] = frozenset()
    """Columns of the training table that the model does not have, which may come without being unknown."""
    takes_missing: bool = True
    """False to refuse missing values; else they are NaN, as far as a column can hold them."""

    @classmethod
    def of(cls, columns: Sequence[Mapping[str, Any]], **reading: Any) -> TableForm:
        """Return the form of a manifest's columns, as JSON has them."""
        codes, unseen = (
            {each["name"]: each[key] for each in columns if each.get(key)} for key in ("codes", "unseen")
        )
        categories = {each["name"]: tuple(each.get("categories") or ()) for each in columns}
        return cls(categories, codes=codes, unseen=unseen, **reading)

    def places(self) -> Iterator[tuple[str, slice]]:
        """Yield each column with the slice of a row that holds its features."""
        start = 0
        for name, categories in self.columns.items():
            stop = start + (len(categories) or 1)
            yield name, slice(start, stop)
            start = stop

    def unknown(self, names: Sequence[str]) -> list[str]:
        """Return the names that neither the model nor its training table has; what is no name is none."""
        known = {*self.columns, *self.left_out}
        return [name for name in names if name not in known and not has_no_name(name)]


@lru_cache(maxsize=64)
def numbers_by_label(class_names: tuple[str, ...]) -> Mapping[str, int]:
    """Return classes by name and by number, which comes first: a query string has no types."""
    numbers = range(len(class_names))
    return dict(zip(class_names, numbers, strict=True)) | {str(number): number for number in numbers}


class ClassColumn(NamedTuple):
    """The column that holds the class of each row, for a model with a class condition.

    They are names alone, read as in training, so numbers there are names too.
    """

    name: str
    class_names: Sequence[str]

    @classmethod
    def of(cls, manifest: Mapping[str, Any]) -> Self | None:
        """Return the column of a manifest as JSON has it; None if it has none, as older ones."""
        name = manifest.get("label_column")
        return None if name is None else cls(name, manifest["class_names"])

    def numbers(self, values: Any, pointer: str = "/inputs", first_row: int = 0) -> list[int]:
        """Return the numbers of the classes of rows, from the values of the column.

        Args:
            values: A list of texts or values, a numpy array or an Arrow array.
            pointer: The place of the rows in the request, for the flaw.
            first_row: The number of the first of these rows, for the flaw.

        Raises:
            Unfit: a value is missing, or no name of a class; names the row.
        """
        places = {name: number for number, name in enumerate(self.class_names)}
        texts = texts_of(values)
        found = [places.get(text or "", places.get((text or "").casefold(), -1)) for text in texts]
        if -1 not in found:
            return found
        row = found.index(-1)
        came = "no class" if texts[row] is None else repr((texts[row] or "")[:_LONGEST_CLASS])
        more = ", ..." if len(self.class_names) > _MOST_CLASSES else ""
        flaw = Flaw(f"{pointer}/{first_row + row}/{self.name}", f"{came} came", first_row + row)
        raise Unfit(
            f"the column `{self.name}` has {came} in row {first_row + row}; the classes are "
            f"{', '.join(self.class_names[:_MOST_CLASSES])}{more}. Correct it, or give a `label` and leave "
            "the column out",
            flaws=(flaw,),
        )


def features_of(
    table: Mapping[Any, Any],
    form: TableForm,
    *,
    names: Sequence[str] | None = None,
    pointer: str = "/inputs",
    refuse_unknown: bool = False,
    first_row: int = 0,
    lacking: Mapping[str, Sequence[int]] = MappingProxyType({}),
) -> Floats:
    """Return the rows (B, F) float32 of a table: numbers, NaN where they are missing, and one-hot categories.

    Args:
        table: Columns by name, each a list of texts, a numpy array or an Arrow array.
        form: The columns of the model.
        names: The names as they came, if the table cannot hold one that came twice; else its keys.
        pointer: The place of the rows in the request, for the flaws.
        refuse_unknown: True to refuse columns that neither the model nor its training table has.
        first_row: The number of the first of these rows, for the flaws.
        lacking: The rows without a column that other rows have, as records may be; their values are None.

    Raises:
        Unfit: with everything that is wrong: columns that are missing, doubled or unknown; else values that
            are missing or no numbers, and categories that the model does not know.
    """
    keys = {str(key): key for key in table}
    check_names([*keys] if names is None else names, form, refuse_unknown=refuse_unknown)
    report = _Report(pointer, first_row, form.takes_missing)
    parts: list[Floats] = []
    for name in form.columns:
        values = table[keys[name]]
        if name in lacking:
            report.add(
                f"{len(lacking[name])} of {len(values)} records lack the column `{name}`",
                lacking[name],
                name,
                "it lacks the column",
            )
        column = _one_hot if form.columns[name] else _number
        parts.append(column(values, name, form, report, set(lacking.get(name, ()))))
    rows = {len(part) for part in parts}
    if len(rows) > 1:
        raise Unfit(f"the columns have {', '.join(map(str, sorted(rows)))} rows; give them the same number")
    if rows == {0}:
        raise Unfit("the table has columns but no rows; give it at least one")
    report.check()
    return np.concatenate(parts, axis=1)


def table_of_records(
    records: Sequence[Mapping[str, Any]], form: TableForm
) -> tuple[dict[str, list[Any]], dict[str, list[int]]]:
    """Return records as columns, None where a record lacks one, and the rows without a column of the form."""
    names = dict.fromkeys(name for record in records for name in record)
    table = {name: [record.get(name) for record in records] for name in names}
    lacking = {
        name: rows
        for name in names
        if name in form.columns and (rows := [row for row, each in enumerate(records) if name not in each])
    }
    return table, lacking


@dataclass
class _Report:
    """All that is wrong with the values of a table."""

    pointer: str
    first_row: int
    takes_missing: bool
    reasons: list[str] = field(default_factory=list)
    flaws: list[Flaw] = field(default_factory=list)

    def add(self, reason: str, rows: Sequence[int], column: str, message: str) -> None:
        """Add a reason, and a flaw for each of the rows (numbered from 0 in this part of the table)."""
        self.reasons.append(reason)
        place = column.replace("~", "~0").replace("/", "~1")  # RFC 6901, section 3
        for row in rows[:MOST_NAMED]:
            number = int(row) + self.first_row
            self.flaws.append(Flaw(f"{self.pointer}/{number}/{place}", f"{message} `{column}`", number))

    def add_missing(self, rows: Sequence[int], column: str) -> None:
        """Add the rows whose value of a column is missing, if the model takes none such."""
        if len(rows) and not self.takes_missing:
            self.add(
                f"the column `{column}` is empty in {self.where(rows)}, where the model needs values",
                rows,
                column,
                "it is empty in the column",
            )

    def where(self, rows: Sequence[int]) -> str:
        """Return the first of the rows in words, and how many more there are."""
        first = f"row {int(rows[0]) + self.first_row}"
        return f"{first} and in {len(rows) - 1} more rows" if len(rows) > 1 else first

    def check(self) -> None:
        """Raise Unfit if anything is wrong."""
        if self.reasons:
            flaws = sorted(self.flaws, key=lambda flaw: flaw.row or 0)
            more = len(self.reasons) - MOST_NAMED
            text = "; ".join(self.reasons[:MOST_NAMED]) + (f"; and {more} more flaws" if more > 0 else "")
            raise Unfit(text, flaws=tuple(flaws[:MOST_NAMED]))


def check_names(names: Sequence[str], form: TableForm, *, refuse_unknown: bool) -> None:
    """Raise Unfit, with all that is wrong, if columns are missing, doubled, or unknown and refused."""
    counts = Counter(names)
    missing = [name for name in form.columns if name not in counts]
    doubled = [name for name in form.columns if counts[name] > 1]
    unknown = form.unknown(list(counts)) if refuse_unknown else []
    found = [f"lacks {named(missing)}"] if missing else []
    if missing and not refuse_unknown:  # with unknown ones, these are named
        others = [name for name in counts if name not in form.columns]
        near = difflib.get_close_matches(missing[0], others, n=1)
        found[0] += f" (is it `{near[0]}`?)" if near else ""
    found += [f"has {named(doubled)} more than once"] if doubled else []
    if unknown:
        near = difflib.get_close_matches(unknown[0][:_LONGEST_NAME], missing or form.columns, n=1)
        found.append(
            f"has {named(unknown)}, which the model does not have"
            + (f" (did you mean `{near[0]}`?)" if near else "")
        )
    if found:
        *first, last = found
        text = f"{', '.join(first)} and {last}" if first else last
        advice = f"it has {named(list(names)) or 'no columns'}"
        if unknown and not missing:
            advice = "leave out such a column, or name it by `id` if it tells the rows apart"
        raise Unfit(f"the table {text}; {advice}")


def named(names: Sequence[str]) -> str:
    """List names for a message, the first of them."""
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return ", ".join(f"`{name[:_LONGEST_NAME]}`" for name in names[:MOST_NAMED]) + more


def _number(values: Any, name: str, form: TableForm, report: _Report, lacking: Set[int]) -> Floats:
    kind = kind_of(values)
    if kind == "list":
        raise Unfit(f"the column `{name}` holds lists; a column has one axis")
    if kind in ("date", "other"):
        came = getattr(values, "dtype", None) or getattr(values, "type", kind)
        raise Unfit(f"the column `{name}` holds {came}; wanted numbers")
    numbers = numbers_of(values, form.decimal, form.codes.get(name, ()))
    if numbers.misfits:
        row, text = next(iter(numbers.examples.items()))
        others = f" and in {numbers.misfits - 1} more rows" if numbers.misfits > 1 else ""
        report.add(
            f"the column `{name}` holds {text!r} in row {row + report.first_row}{others}; wanted numbers",
            [*numbers.examples],
            name,
            "it has no number in the column",
        )
    with np.errstate(over="ignore"):  # what overflows float32 is refused below
        part = numbers.values.astype(np.float32)[:, None]
    if infinite := np.flatnonzero(np.isinf(part)).tolist():
        report.add(
            f"the column `{name}` is {numbers.values[infinite[0]]:g} in {report.where(infinite)}, wanted "
            "numbers that are finite in float32",
            infinite,
            name,
            "it has no number that is finite in float32 in the column",
        )
    if not report.takes_missing and np.isnan(part).any():
        known = {*numbers.examples, *lacking}
        report.add_missing([row for row in np.flatnonzero(np.isnan(part)).tolist() if row not in known], name)
    return part


def _one_hot(values: Any, name: str, form: TableForm, report: _Report, lacking: Set[int]) -> Floats:
    categories, unseen = form.columns[name], form.unseen.get(name, "refuse")
    codes = tuple(form.codes.get(name, ()))
    places = _places_of(categories, codes).find(texts_of(values, codes))
    absent = [row for row in np.flatnonzero(places == ABSENT).tolist() if row not in lacking]
    if unseen == "other":
        places[places == UNKNOWN] = categories.index(unseen)
    elif unseen == "missing":
        places[places == UNKNOWN] = ABSENT
    report.add_missing(absent, name)
    wrong = np.flatnonzero(places == UNKNOWN).tolist()
    if wrong:
        report.add(
            f"the column `{name}` has {len(wrong)} values that are none of its categories, the first in row "
            f"{wrong[0] + report.first_row}; it takes {named(categories)}",
            wrong,
            name,
            f"it has none of the categories {named(categories)} in the column",
        )
    encoded: NDArray[np.float32] = np.eye(len(categories), dtype=np.float32)[places]
    encoded[places == ABSENT] = np.nan
    return encoded


@lru_cache(maxsize=1024)
def _places_of(categories: tuple[str, ...], codes: tuple[Code, ...]) -> Places:
    return Places(categories, codes)
