"""Columns of a table as they are read, block by block: numbers or codes of texts, and facts about them."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from service.media.tables.cells import ABSENT, Code, Places, kind_of, numbers_of, texts_of, truth_names
from service.numerics.noise import Doubles
from training.data.flaws import Flaws
from training.data.options import DataOptions
from training.data.splits import in_order
from training.data.toml import as_toml

LARGEST = 1e30
"""The largest value, and 1 over it the smallest standard deviation, that float32 holds without loss."""
MOST_CATEGORIES = 256
FEW_CATEGORIES: Final = 20
"""The number of categories that are allowed even if there are few rows."""
_NINES: Final = np.array([10.0**digits - 1 for digits in range(2, 16)])
_FAR: Final = 3
"""A code lies this many times the range of all other values away from them."""
_MOST_SHOWN: Final = 3
_MOST_TEXTS: Final = 100_000
_MONTH: Final = (
    "(jan(uar[yi]?)?|feb(ruar[yi]?)?|mar(ch|s|zo)?|m[aä]rz?|apr(il|ile)?|ma[iy]|june?|juni|july?|juli"
    "|aug(ust)?|sept?(ember)?|o[ck]t(ober)?|nov(ember)?|de[cz](ember)?)"
)
_CLOCK: Final = r"\d{1,2}:\d\d(:\d\d.*)?( ?[ap]\.?m\.?)?"
_DATE: Final = re.compile(
    r"\d{4}([-/.])\d{1,2}\1\d{1,2}([T ].*)?|\d{1,2}([./-])\d{1,2}\3(\d{4}|\d\d)(,? .*)?"
    r"|(19|20)\d\d[-/](0[1-9]|1[0-2])|(19|20)\d\d[- ]?[QW]\d{1,2}|\d{8}T\d{4,6}.*"
    rf"|([a-z]{{2,9}}\.?,? )?(\d{{1,2}}[ ./-]*)?{_MONTH}\.?[ ,./-]+\d{{1,4}}"
    rf"([ ,T]+\d[-\d:., +]*[a-z.]{{0,5}})?|{_CLOCK}",
    re.IGNORECASE,
)
"""Dates, times of day, months of a year and quarters."""
_GROUPED: Final = r"(\d+([.,]\d+)?|\d{1,3}([.,'\u2019\s]\d{3})+([.,]\d+)?)"
_CURRENCY: Final = r"([$€£¥₹]|EUR|USD|GBP|CHF|JPY)?"
_MARKED: Final = re.compile(
    rf"\(?[-+\u2212]?\s*{_CURRENCY}\s*[-+\u2212]?{_GROUPED}([ed][-+]?\d+)?\s*({_CURRENCY}|[%‰]|[-\u2212])\)?",
    re.IGNORECASE,
)
"""A number in a form that is not read: grouped digits, currencies, percent, other signs and decimal marks."""
_WITH_UNIT: Final = re.compile(rf"[-+\u2212]?{_GROUPED}\s*(?P<unit>[^\W\d][^\d\s]{{0,7}})")

DATE_ADVICE: Final = "give a number instead, e.g. days since an event"
PLAIN_ADVICE: Final = "write them as plain numbers, e.g. 1234.5, and units in the column's name"

Codes = npt.NDArray[np.int64]


@dataclass
class Found:
    """Values of one sort in a column: their number, and the first of their rows, from 1."""

    count: int = 0
    rows: list[int] = field(default_factory=list)

    def add(self, flags: npt.NDArray[np.bool_], before: int) -> None:
        """Add the rows of a block that are flagged, with `before` rows before the block."""
        found = np.flatnonzero(flags)
        self.count += len(found)
        self.rows += (found[: _MOST_SHOWN - len(self.rows)] + before + 1).tolist()

    def __str__(self) -> str:
        """Name the rows."""
        more = ", ..." if self.count > len(self.rows) else ""
        return f"row{'s' if self.count > 1 else ''} {', '.join(map(str, self.rows))}{more}"


class NumberColumn:
    """A column of numbers: what its blocks hold, and what is wrong with it."""

    def __init__(self, name: str, decimal: str, codes: Collection[Code]) -> None:
        self.name = name
        self.rows = 0
        self.missing, self.infinite, self.huge = Found(), Found(), Found()
        self.low, self.high = np.inf, -np.inf
        self._decimal, self._codes = decimal, codes
        self.strange = ""
        self.misfits = 0
        self._misfit_texts: dict[str, int] = {}
        self._suspects: dict[float, Found] = {}
        self._texts: set[str] = set()

    def add(self, values: Any) -> Doubles:
        """Return a block of values as float64, (rows,)."""
        kind = kind_of(values)
        if kind in ("date", "list", "other"):
            example = next((str(value)[:40] for value in values if value is not None), "nothing")
            self.strange = self.strange or f"{'dates' if kind == 'date' else kind}, e.g. {example!r}"
            self.rows += len(values)
            return np.full(len(values), np.nan)
        read = numbers_of(values, self._decimal, self._codes)
        self.misfits += read.misfits
        for row, text in read.examples.items():
            if len(self._texts) < _MOST_TEXTS:
                self._texts.add(text)
            if len(self._misfit_texts) < _MOST_SHOWN:
                self._misfit_texts.setdefault(text, self.rows + row + 1)
        numbers = read.values
        self.missing.add(np.isnan(numbers), self.rows)
        self.infinite.add(np.isinf(numbers), self.rows)
        self.huge.add(np.isfinite(numbers) & (np.abs(numbers) > LARGEST), self.rows)
        nines = np.isin(np.abs(numbers), _NINES)
        for code in np.unique(numbers[nines]).tolist()[:4]:
            if len(self._suspects) < 8:
                self._suspects.setdefault(code, Found()).add(numbers == code, self.rows)
        plain = numbers[np.isfinite(numbers) & ~nines]
        if len(plain):
            self.low, self.high = min(self.low, plain.min()), max(self.high, plain.max())
        self.rows += len(numbers)
        return numbers

    @property
    def misfit_texts(self) -> tuple[str, ...]:
        """The distinct texts that are no numbers."""
        return tuple(sorted(self._texts))

    @property
    def misfit_shown(self) -> str:
        """The first texts that are no numbers, with their rows."""
        return ", ".join(f"{text!r} in row {row}" for text, row in self._misfit_texts.items())

    @property
    def holds_dates(self) -> bool:
        """True if the texts are dates or times of day."""
        return bool(self._misfit_texts) and all(map(is_date, self._misfit_texts))

    @property
    def holds_marked_numbers(self) -> bool:
        """True if texts are numbers with marks, such as `1,234.50`, `$5`, `12 %` or `3 kg`.

        In a column of plain numbers one such text is enough: it is no mark of a missing value. In another
        one all texts are such, and more than categories usually are.
        """
        marked = [_MARKED.fullmatch(text) is not None for text in self._texts]
        if self.mostly_numbers:
            return any(marked)
        units = {found and found["unit"] for found in map(_WITH_UNIT.fullmatch, self._texts)}
        is_number = all(marked) or (len(units) == 1 and None not in units)
        return len(self._texts) > FEW_CATEGORIES and is_number

    @property
    def mostly_numbers(self) -> bool:
        """True if the texts that are no numbers are few, and different from the numbers around them."""
        there = self.rows - self.missing.count + self.misfits
        return self.misfits * 2 < there

    @property
    def suspected(self) -> dict[float, Found]:
        """Values such as 999999999 that lie far from all others, and so may stand for missing ones."""
        span = self.high - self.low
        return {
            code: found
            for code, found in self._suspects.items()
            if np.isfinite(span)
            and found.count * 2 < self.rows
            and min(abs(code - self.low), abs(code - self.high)) > _FAR * max(span, abs(code) * 1e-6)
        }

    def check(self, flaws: Flaws, options: DataOptions) -> None:
        """Add what makes the column unfit."""
        column = f"column {self.name!r}"
        if self.strange:
            advice = DATE_ADVICE if "dates" in self.strange else "save it as numbers"
            flaws.add(f"{column} holds {self.strange}, not numbers; {advice}", self.name)
        elif self.misfits:
            self._check_misfits(flaws, column)
        if self.infinite.count:
            flaws.add(
                f"{column} has {self.infinite.count} infinite values, in {self.infinite} (a header not "
                f"counted); correct them, remove these rows, call them missing by "
                f"missing_codes = {as_toml({self.name: [np.inf, -np.inf]})}",
                self.name,
            )
        if options.missing == "refuse" and self.missing.count > self.misfits and not self.strange:
            flaws.add(_missing(column, self.missing), self.name)
        if self.huge.count:
            flaws.add(
                f"{column} has {self.huge.count} values beyond {LARGEST:g}, in {self.huge}: float32 cannot "
                "hold them; give the column another unit",
                self.name,
            )

    def _check_misfits(self, flaws: Flaws, column: str) -> None:
        shown, texts = self.misfit_shown, self.misfit_texts
        if self.holds_dates:
            flaws.add(f"{column} holds dates, e.g. {shown}; {DATE_ADVICE}", self.name)
        elif self.holds_marked_numbers:
            flaws.add(f"{column} holds numbers with marks, e.g. {shown}; {PLAIN_ADVICE}", self.name)
        elif self.mostly_numbers:
            codes = f"missing_codes = {as_toml({self.name: texts[:5]})}"
            flaws.add(
                f"{column} holds numbers, but {self.misfits} of {self.rows} values are none: {shown} (a "
                f"header not counted); correct them, or learn the other rows' values by {codes}",
                self.name,
            )
        elif few_recur(len(texts), self.misfits):
            flaws.add(
                f"{column} holds text, e.g. {shown}; name it in one_hot = [{self.name!r}] if it holds "
                "categories",
                self.name,
            )
        elif len(texts) == self.rows:
            flaws.add(
                f"{column} holds another text in every row, e.g. {shown}: it names the rows and tells "
                "nothing of them",
                self.name,
            )
        else:
            flaws.add(
                f"{column} holds {len(texts)} different texts, e.g. {shown}; give numbers, or fewer of them",
                self.name,
            )


class TextColumn:
    """A column of categories or classes: the codes of its blocks' texts, in the order of their first rows."""

    def __init__(self, name: str, codes: Collection[Code]) -> None:
        self.name = name
        self.rows = 0
        self.missing = Found()
        self._codes = codes
        self._missing = Places((), codes)
        self._places: dict[str, int] = {}

    def add(self, values: Any) -> Codes:
        """Return a block of values as codes (rows,); -1 for a missing one."""
        places = self._places
        texts = texts_of(values, self._codes)
        missing = self._missing.find(texts) == ABSENT
        codes = np.array(
            [
                -1 if gone or text is None else places.setdefault(text, len(places))
                for text, gone in zip(texts, missing.tolist(), strict=True)
            ],
            np.int64,
        )
        self.missing.add(codes < 0, self.rows)
        self.rows += len(codes)
        return codes

    @property
    def texts(self) -> list[str]:
        """The distinct texts so far, by their codes."""
        return [*self._places]

    @property
    def names(self) -> tuple[str, ...]:
        """The distinct texts in order: truth values as `true` and `false`."""
        return tuple(in_order(text for text in truth_names([*self._places]) if text is not None))

    def places(self) -> Codes:
        """Return the place among `names` of every code, and last that of a missing one, -1."""
        places = {name: place for place, name in enumerate(self.names)}
        return np.array([*map(places.__getitem__, filter(None, truth_names([*self._places]))), -1], np.int64)

    def check(self, flaws: Flaws, options: DataOptions) -> None:
        """Add what makes the column unfit for categories."""
        column, names = f"column {self.name!r}", self.names
        if options.missing == "refuse" and self.missing.count:
            flaws.add(_missing(column, self.missing), self.name)
        if len(names) == 1:
            flaws.add(f"{column} is {names[0]!r} in every row, which tells nothing; drop it", self.name)
        elif not names:
            flaws.add(f"{column} holds no values; fill it in", self.name)
        if len(names) > MOST_CATEGORIES:
            flaws.add(
                f"{column} has {len(names)} categories, e.g. {names[0]!r}; at most {MOST_CATEGORIES} become "
                "features. Merge the rare ones",
                self.name,
            )


def is_date(text: str) -> bool:
    """Return True if a text is a date, a time of day, a month of a year or a quarter."""
    return _DATE.fullmatch(text) is not None


def few_recur(distinct: int, rows: int) -> bool:
    """Return True if so few distinct texts recur in so many rows that they are categories."""
    return distinct < rows and distinct <= min(MOST_CATEGORIES, max(FEW_CATEGORIES, rows // 5))


def _missing(column: str, missing: Found) -> str:
    return (
        f"{column} has {missing.count} missing values, in {missing} (a header not counted), and the recipe "
        "says missing = 'refuse'; fill them in, remove these rows, leave `missing` out to learn from what is "
        "there"
    )
