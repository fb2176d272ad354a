"""The columns of a table in their roles, read block by block."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from service.errors import ServiceError
from service.format.columns import OTHER, Column, column_places, have_values
from service.media.tables.sources import Block, TableSource
from service.numerics.noise import Doubles
from training.data.dataset import DataError
from training.data.flaws import Flaws
from training.data.options import DataOptions
from training.data.reading import Found, NumberColumn, TextColumn
from training.data.splits import Classes, named, no_classes
from training.data.toml import as_toml

MOST_GAPS = 4
"""Row numbers of a table that was filtered span at most this many times its rows."""
Values = npt.NDArray[Any]
"""Values (rows,) of a column: float64 numbers, or int64 codes of texts."""


def blocks_of(table: TableSource, path: Path) -> Iterator[Block]:
    """Yield the blocks of a table; errors of reading name its path."""
    try:
        yield from table.blocks()
    except ServiceError as error:
        raise DataError(f"{path}: {error}") from error


def ascends(numbers: Values) -> bool:
    """Return True for whole numbers (rows,) each larger than the one before."""
    return bool((np.diff(numbers) > 0).all() and (numbers == np.round(numbers)).all())


@dataclass(frozen=True)
class _Counting:
    """A column of whole numbers that has ascended so far, with few gaps, as row numbers do."""

    first: float
    last: float
    rows: int


class TableColumns:
    """The columns of a table in their roles, fed block by block."""

    def __init__(self, table: TableSource, options: DataOptions) -> None:
        self._table, self._options = table, options
        self.columns: dict[str, NumberColumn | TextColumn] = {}
        for name in table.names:
            codes = options.missing_codes.get(name, ())
            if name in options.one_hot or name == options.label:
                self.columns[name] = TextColumn(name, codes)
            elif name not in options.drop:
                self.columns[name] = NumberColumn(name, table.dialect.decimal, codes)
        self.learned = [name for name in self.columns if name != options.label]
        self._counting: dict[str, _Counting | None] = {}

    def add(self, block: Block) -> dict[str, Values]:
        """Return a block's values: float64 numbers, and codes of texts."""
        values = {name: column.add(block[name]) for name, column in self.columns.items()}
        for name, column in self.columns.items():
            if isinstance(column, NumberColumn):
                self._count(name, values[name])
        return values

    def _count(self, name: str, numbers: Values) -> None:
        if not len(numbers) or (name in self._counting and self._counting[name] is None):
            return
        before = self._counting.get(name) or _Counting(float(numbers[0]), float(numbers[0]) - 1, 0)
        now = _Counting(before.first, float(numbers[-1]), before.rows + len(numbers))
        counts = ascends(numbers) and numbers[0] > before.last and now.last - now.first < MOST_GAPS * now.rows
        self._counting[name] = now if counts else None

    @property
    def rows(self) -> int:
        """The number of rows so far."""
        return next(iter(self.columns.values())).rows if self.columns else 0

    @property
    def label(self) -> TextColumn | None:
        """The column of classes, if there is one."""
        column = self.columns.get(self._options.label or "")
        return column if isinstance(column, TextColumn) else None

    @property
    def left_out(self) -> tuple[str, ...]:
        """The columns of the file that the model does not see."""
        options = self._options
        return (*options.drop, *options.column_roles["label"], *self._table.left_out)

    def check(self, path: Path) -> None:
        """Raise a DataError with all that is wrong with the columns, if anything is."""
        if not self.learned:
            raise DataError(f"{path}: no columns are left to learn; drop fewer")
        if not self.rows:
            raise DataError(f"{path} has column names but no rows; give it rows")
        flaws = Flaws(path)
        for name, column in self.columns.items():
            if name != self._options.label:
                column.check(flaws, self._options)
            elif column.missing.count:
                flaws.add(
                    f"column {name!r} has {column.missing.count} missing values, in {column.missing} (a "
                    "header not counted); fill them in, remove these rows, or leave the column out"
                )
        flaws.refuse()

    def classes(self, values: dict[str, Values]) -> Classes:
        """Return the classes of all rows."""
        column = self.label
        if column is None:
            return no_classes(self.rows)
        return Classes(column.names, column.places()[values[column.name]])

    def features(self, name: str, values: Values) -> Doubles:
        """Return the features (rows, F) of values of a column."""
        column = self.columns[name]
        if isinstance(column, NumberColumn):
            return np.asarray(values, np.float64)[:, None]
        names = self._category_names(column)
        places = column.places()[values]
        encoded = np.full((len(values), len(names)), np.nan)
        encoded[places >= 0] = np.eye(len(names))[places[places >= 0]]
        return encoded

    def model_columns(self) -> list[Column]:
        """Return the columns of the model."""
        options, made = self._options, []
        for name in self.learned:
            column, codes = self.columns[name], tuple(options.missing_codes.get(name, ()))
            if isinstance(column, TextColumn):
                names = self._category_names(column)
                decimals = 0 if have_values(column.names) else None
                made.append(
                    Column(name=name, categories=names, unseen=options.unseen, codes=codes, decimals=decimals)
                )
            else:
                made.append(Column(name=name, codes=codes))
        return made

    def _category_names(self, column: TextColumn) -> tuple[str, ...]:
        return (*column.names, OTHER) if self._lacks_other(column) else column.names

    def _lacks_other(self, column: TextColumn) -> bool:
        return self._options.unseen == "other" and OTHER not in column.names

    @property
    def absent(self) -> tuple[int, ...]:
        """The features of the categories `other` that no row of the file has, each the last of its column."""
        places = zip(self.learned, column_places(self.model_columns()), strict=True)
        readers = ((self.columns[name], place.stop - 1) for name, (_, place) in places)
        return tuple(
            last for read, last in readers if isinstance(read, TextColumn) and self._lacks_other(read)
        )

    def notes(self) -> tuple[str, ...]:
        """Return sentences on what was found, left out, or looks as if it should be."""
        table = self._table
        notes = [f"The file was {note}." for note in table.notes]
        notes += (f"Left out {name!r}, {reason}." for name, reason in table.left_out.items())
        if self._options.drop:
            notes.append(f"Left out by the recipe: {named(self._options.drop)}.")
        for name, codes in self._options.missing_codes.items():
            notes.append(f"In {name!r} {named([str(code) for code in codes])} stand for missing values.")
        for name, counting in self._counting.items():
            if counting is not None and counting.rows > 2:
                notes.append(
                    f"Column {name!r} only counts the rows, from {counting.first:g} on, so every later row "
                    f"will be an anomaly by its number; leave it out with drop = [{name!r}]."
                )
        for name, column in self.columns.items():
            if isinstance(column, NumberColumn):
                notes += (_suspicion(name, code, found) for code, found in column.suspected.items())
        return tuple(notes)


def _suspicion(name: str, code: float, found: Found) -> str:
    return (
        f"Column {name!r} is {code:.0f} in {found.count} rows, far from all its other values: {found}. "
        f"If it stands for a missing value, write missing_codes = {as_toml({name: [code]})}; as a number it "
        "sets the column's scale."
    )
