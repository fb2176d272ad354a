"""The dialect of a table in text: what separates its values, and its decimal mark."""

from __future__ import annotations

import csv
import re
from collections.abc import Collection, Sequence
from typing import Final, Literal, NamedTuple

from service.media.tables.cells import MISSING, is_number

SEPARATORS: Final = (",", ";", "\t", "|")
_COMMA_DECIMAL: Final = re.compile(r"[+-]?\d*,\d+([eE][+-]?\d+)?")
_GROUPED: Final = re.compile(r"[+-]?[1-9]\d{0,2}(,\d{3})+")
"""Digits in groups of thousands, as in English; or a number with three decimals after a comma."""
_POINT_DECIMAL: Final = re.compile(r"[+-]?\d*\.\d+([eE][+-]?\d+)?")
_MOST_LINES: Final = 1000

Decimal = Literal[".", ","]


class Dialect(NamedTuple):
    """The marks of a table in text."""

    separator: str = ","
    """One character between values."""
    decimal: Decimal = "."
    """The mark before the decimals of a number."""
    skips_spaces: bool = False
    """True if a space behind each separator belongs to no value."""

    def __str__(self) -> str:
        """Say it in words."""
        names = {"\t": "tabs", ";": "semicolons", ",": "commas", "|": "bars"}
        mark = {".": "points", ",": "commas"}[self.decimal]
        separator = names.get(self.separator, repr(self.separator))
        separator += " and spaces" if self.skips_spaces else ""
        return f"values separated by {separator}, decimal {mark}"


def find_dialect(
    sample: str,
    usual: str = ",",
    separator: str | None = None,
    decimal: Decimal | None = None,
    *,
    is_cut: bool = False,
    wanted: Collection[str] = (),
) -> Dialect:
    """Find the dialect of a table from the text that it begins with, which is all of it unless it `is_cut`.

    A separator is one that cuts every line into as many values as the line of names, and the most of them
    into numbers; `usual` is preferred if several do. Decimals are commas only if values are separated by
    something else or quoted, some numbers have commas and none a point. If they are quoted, and
    semicolons separate no values, one must be no group of thousands, as `"1,234"` may be. Marks that are
    given are taken as they are. If a space is behind every separator, it belongs to no value, unless names
    that are `wanted` begin with one.
    """
    sample = sample[: sample.rfind("\n") + 1] or sample if is_cut else sample
    if separator is None:
        cuts = {each: _cut(sample, each, is_cut) for each in dict.fromkeys((usual, *SEPARATORS))}
        even = {
            each: lines for each, lines in cuts.items() if lines and len(lines[0]) > 1 and _is_even(lines)
        }
        separator = (
            usual
            if set(even) <= {usual}
            else max(even, key=lambda each: (_numeric_share(even[each]), each == usual))
        )
    lines = _cut(sample, separator, is_cut)
    if decimal is None:
        cells = [cell.strip() for line in lines[1:] for cell in line]
        commas = separator != "," or any("," in cell for cell in cells)
        quotes = separator != ";" and '"' in sample
        commas = commas and any(
            _COMMA_DECIMAL.fullmatch(cell)
            and not (quotes and _GROUPED.fullmatch(cell) and f'"{cell}"' in sample)
            for cell in cells
        )
        decimal = "," if commas and not any(_POINT_DECIMAL.fullmatch(cell) for cell in cells) else "."
    is_spaced = _is_spaced(sample, separator) and not any(name.startswith(" ") for name in wanted)
    return Dialect(separator, decimal, is_spaced)


def _cut(sample: str, separator: str, is_cut: bool) -> list[list[str]]:
    """Return the values of the first lines, less the last one if the sample may cut it."""
    lines: list[list[str]] = []
    try:
        spaced = _is_spaced(sample, separator)
        pieces = sample.splitlines(keepends=True)
        for line in csv.reader(pieces, delimiter=separator, skipinitialspace=spaced):
            if line:
                lines.append(line)
            if len(lines) > _MOST_LINES:
                break
    except csv.Error:
        return lines
    return lines[:-1] if is_cut and len(lines) > 2 else lines


def _is_spaced(sample: str, separator: str) -> bool:
    """Return True if a space is behind every separator of a text, but at the ends of lines."""
    spaces = 0 if separator.isspace() else sample.count(f"{separator} ")
    ends = sample.count(f"{separator}\n") + sample.count(f"{separator}\r")
    return spaces > 0 and spaces + ends == sample.count(separator)


def _is_even(lines: Sequence[Sequence[str]]) -> bool:
    return all(len(line) == len(lines[0]) for line in lines)


def _numeric_share(lines: Sequence[Sequence[str]]) -> float:
    cells = [cell for line in lines[1:] for cell in line if cell.strip() not in MISSING]
    found = sum(is_number(cell) or is_number(cell, ",") for cell in cells)
    return round(found / len(cells), 1) if cells else 0.0
