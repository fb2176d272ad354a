"""The rows of a table in blocks: of a text, of Parquet, or of a folder of such parts.

A block holds the values of each column under its name: a list of texts, or an Arrow array. Memory holds one
block at a time, however many rows there are.
"""

from __future__ import annotations

import csv
import io
import json
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any, BinaryIO, Final

from service.errors import LimitExceeded, Malformed, NotEnabled, ServiceError, Unfit
from service.media.tables.bounds import TableBounds, check_parquet
from service.media.tables.cells import is_number
from service.media.tables.dialect import Decimal, Dialect, find_dialect
from service.media.tables.opening import (
    TABLES,
    UNREADABLE,
    USUAL_SEPARATORS,
    as_text,
    kind_of_file,
    no_text,
    partition_values,
    parts_of,
    sentence,
    uncompressed,
)

Block = Mapping[str, Any]
BLOCK_ROWS: Final = 16_384
BLOCK_CELLS: Final = 2**21
"""The approximate number of values that one block holds: fewer rows if there are many columns."""
BLANK: Final = " \t"
"""The characters of which the cells of a blank row consist."""
_END: Final = "end"
"""Each value of the row that is read after the last one of a text."""
_LONGEST_TITLE: Final = 60
csv.field_size_limit(2**24)


class TableSource(ABC):
    """A table that can be read block by block, as often as wanted."""

    names: list[str]
    """The names of all columns, in the order of the file, without those in `left_out`."""
    left_out: dict[str, str]
    """Columns that the file itself says are no data, with the reason."""
    notes: list[str]
    """Sentences on what is unusual in the file."""
    dialect: Dialect = Dialect()
    is_text = False
    rows: int | None = None
    """The number of rows, where the file itself says it."""

    @abstractmethod
    def blocks(self, cells: int = BLOCK_CELLS) -> Iterator[Block]:
        """Yield the rows in order, about so many cells at once.

        Raises:
            Malformed: a row cannot be read; says which.
        """


class TextTable(TableSource):
    """A table in text: a line of names, then a line for each row, perhaps with line ends inside of quotes."""

    is_text = True

    def __init__(
        self,
        opened: Callable[[], BinaryIO],
        usual: str = ",",
        separator: str | None = None,
        decimal: Decimal | None = None,
        bounds: TableBounds | None = None,
        wanted: Collection[str] = (),
    ) -> None:
        """Read the beginning. `opened` opens the file anew; the marks are found unless they are given.

        Raises:
            Malformed, Unfit: it is no such text, is empty, or names a column twice.
        """
        self._opened = opened
        self._bounds = bounds
        with opened() as raw:
            text, sample, is_cut = as_text(uncompressed(raw))
            with text:
                self.dialect = find_dialect(sample, usual, separator, decimal, is_cut=is_cut, wanted=wanted)
                self.names = next(self._lines(text), (0, list[str]()))[1]
        self._first_line_is_names = True
        self.nameless = dict.fromkeys((place for place, name in enumerate(self.names) if not name), False)
        """The places of the columns without a name, and whether a value of theirs has been read."""
        self.left_out, self.notes = {}, []
        if self.dialect != Dialect(usual):
            self.notes.append(f"read with {self.dialect}")
        if text.encoding not in ("utf-8", "utf-8-sig"):
            self.notes.append(f"read as {text.encoding}")
        if not self.names:
            raise Unfit("it is empty; wanted a line of column names, and rows")

    @property
    def first_line_is_numbers(self) -> bool:
        """Return True if all names are numbers, so that they may be a row."""
        return all(is_number(name, self.dialect.decimal) for name in self.names)

    def number_columns(self) -> None:
        """Call the columns 0, 1, ...; the first line is then a row, unless it holds just these."""
        numbers = [str(place) for place in range(len(self.names))]
        self._first_line_is_names = self.names == numbers
        self.names = numbers

    def blocks(self, cells: int = BLOCK_CELLS) -> Iterator[Block]:
        """Yield the rows in order, as texts."""
        size = max(64, min(BLOCK_ROWS, cells // len(self.names)))
        with self._opened() as raw, as_text(uncompressed(raw))[0] as text:
            lines = self._lines(text)
            if self._first_line_is_names:
                next(lines, None)
            rows = (self._checked(number, line) for number, line in lines)
            while chunk := list(islice(rows, size)):
                columns = [list(column) for column in zip(*chunk, strict=True)]
                for place in self.nameless:
                    self.nameless[place] |= any(columns[place])
                yield dict(zip(self.names, columns, strict=True))

    def _checked(self, number: int, line: list[str]) -> list[str]:
        if len(line) != len(self.names):
            hint, names = "", [name for name in self.names if name.strip()]
            if len(names) == 1 < len(line):
                hint = f". If {names[0][:_LONGEST_TITLE]!r} is no name of a column, remove its line"
            elif number == 2 and len(line) == len(self.names) + 1:  # as write.table of R
                hint = ". If each row begins with its own name, begin the first line with a separator"
            raise Malformed(
                f"line {number} has {len(line)} values, and the first line has {len(self.names)}; it was "
                f"read with {self.dialect}{hint}"
            )
        return line

    def _lines(self, text: io.TextIOWrapper) -> Iterator[tuple[int, list[str]]]:
        """Yield the lines that are not empty, with their numbers from 1; blank ones at the end are left out.

        Spreadsheets save rows below a table that were once in use. One amid the rows counts, so that row n of
        an answer is that of the file.
        """
        blank: list[tuple[range, list[str]]] = []
        """Runs of equal lines, by their numbers: there may be millions."""
        blank_lines = 0
        for number, line in self._filled_lines(text):
            if not "".join(line).strip(BLANK):
                blank_lines += 1
                if self._bounds is not None and blank_lines > self._bounds.rows:
                    raise LimitExceeded(
                        f"line {number} ends more than {self._bounds.rows} blank lines, which are more than "
                        "the rows that are taken; remove them"
                    )
                if blank and blank[-1][1] == line and blank[-1][0].stop == number:
                    blank[-1] = range(blank[-1][0].start, number + 1), line
                else:
                    blank.append((range(number, number + 1), line))
                continue
            for numbers, same in blank:
                yield from ((each, same) for each in numbers)
            blank.clear()
            blank_lines = 0
            yield number, line

    def _filled_lines(self, text: io.TextIOWrapper) -> Iterator[tuple[int, list[str]]]:
        """Yield the lines that are not empty, with their numbers from 1."""
        most = None if self._bounds is None else self._bounds.row_characters
        left = most or 0
        mark, is_ended, begin = [_END, _END], False, 0

        def end() -> Iterator[str]:
            """Yield a row of two values, which is one value more of the last row if a quote is left open."""
            nonlocal is_ended
            is_ended = True
            yield self.dialect.separator.join(mark)

        def pieces() -> Iterator[str]:
            """Yield the lines of text; a row may have several."""
            nonlocal left
            while piece := text.readline(left + 1):
                left -= len(piece)
                if left < 0:
                    raise LimitExceeded(
                        f"a row that ends after line {reader.line_num} has over {most} characters, which no "
                        "row of this model has; is a quote left open?"
                    )
                yield piece

        lines = chain(text if most is None else pieces(), end())
        skips = self.dialect.skips_spaces
        reader = csv.reader(lines, delimiter=self.dialect.separator, skipinitialspace=skips)
        try:
            for line in reader:
                if is_ended:
                    mark = line
                elif line:  # empty lines count as part of the row before
                    yield reader.line_num, line
                    left, begin = most or 0, reader.line_num
        except UnicodeDecodeError as error:
            raise no_text(error) from error
        except (csv.Error, *UNREADABLE) as error:
            raise Malformed(f"line {reader.line_num} cannot be read: {sentence(error)}") from error
        if mark != [_END, _END]:
            raise Malformed(
                f"a quote is left open in the row that begins after line {begin}, which so takes all further "
                "lines; close it, and double the quotes inside of quotes"
            )


class ParquetTable(TableSource):
    """A table in Parquet, read by row groups; the index that pandas stored with it is left out."""

    def __init__(
        self, opened: Callable[[], BinaryIO], wanted: Collection[str] = (), bounds: TableBounds | None = None
    ) -> None:
        """Read the footer. Columns that are `wanted` are kept, also if they are the index.

        Within bounds no others are read, if some are wanted.

        Raises:
            Malformed, LimitExceeded, Unfit: it is no Parquet, or is not within the bounds.
            NotEnabled: pyarrow is not installed.
        """
        self._opened = opened
        self._dictionaries: list[str] | None = None
        with opened() as raw:
            if bounds is not None:
                self._dictionaries = check_parquet(raw.read(), bounds, wanted or None)
            file = _parquet_file(uncompressed(raw))
            schema, self.rows = file.schema_arrow, file.metadata.num_rows
        index = stored_index(schema)
        self.left_out = {name: reason for name, reason in index.items() if name not in wanted}
        self.names = [name for name in schema.names if name not in self.left_out]
        is_whole = bounds is None or not wanted
        self._read = [name for name in self.names if is_whole or name in wanted]
        self.notes = []

    def blocks(self, cells: int = BLOCK_CELLS) -> Iterator[Block]:
        """Yield the rows in order, as Arrow's arrays."""
        import pyarrow

        size = max(64, min(BLOCK_ROWS, cells // max(1, len(self.names))))
        with self._opened() as raw:
            file = _parquet_file(uncompressed(raw), self._dictionaries)
            try:
                for batch in file.iter_batches(size, columns=self._read, use_threads=False):
                    batch.validate(full=True)  # texts may hold any bytes, and dictionaries be too short
                    yield {name: batch.column(place) for place, name in enumerate(batch.schema.names)}
            except (pyarrow.ArrowException, OSError) as error:
                raise Malformed(f"it cannot be read as Parquet: {sentence(error)}; save it anew") from error


def _parquet_file(file: BinaryIO, dictionaries: Sequence[str] | None = None) -> Any:
    file.seek(0)
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise NotEnabled("Parquet is read by pyarrow, which is not installed: pip install pyarrow") from None
    try:
        return parquet.ParquetFile(
            file, pre_buffer=False, buffer_size=2**20, read_dictionary=dictionaries or None
        )
    except (pyarrow.ArrowException, OSError) as error:
        raise Malformed(f"it cannot be read as Parquet: {sentence(error)}; save it anew") from error


def stored_index(schema: Any) -> dict[str, str]:
    """Return the columns of an Arrow schema that pandas stored as its index, with the reason."""
    try:
        document = json.loads((schema.metadata or {}).get(b"pandas", b"{}"))
        index = [name for name in document.get("index_columns", []) if isinstance(name, str)]
    except (ValueError, AttributeError, TypeError, RecursionError):  # the file says anything
        return {}
    return dict.fromkeys((name for name in index if name in schema.names), "the index that pandas stored")


class PartedTable(TableSource):
    """A folder of parts, as Spark and Dask write them: the rows of all parts, in the order of their names.

    Folders in it that are named KEY=VALUE are columns of the rows in them.
    """

    def __init__(self, parts: Sequence[tuple[str, TableSource]]) -> None:
        """Check that all parts have the same columns.

        Raises:
            Unfit: a part lacks a column, or has another one.
        """
        self._parts = parts
        first_name, first = parts[0]
        keys = partition_values(first_name)
        self.names = [*first.names, *(key for key in keys if key not in first.names)]
        for name, part in parts[1:]:
            if other := sorted({*part.names, *partition_values(name)} ^ set(self.names)):
                raise Unfit(f"{name} and {first_name} differ in their columns: {', '.join(other[:8])}")
        self.left_out, self.dialect = first.left_out, first.dialect
        self.is_text = first.is_text
        known = [part.rows for _, part in parts if part.rows is not None]
        self.rows = sum(known) if len(known) == len(parts) else None
        self.notes = [
            *first.notes,
            f"read from {len(parts)} parts" if len(parts) > 1 else "read from one part",
        ]
        if keys:
            self.notes.append(f"read with {', '.join(keys)} from the names of folders")

    def blocks(self, cells: int = BLOCK_CELLS) -> Iterator[Block]:
        """Yield the rows of all parts in order."""
        for name, part in self._parts:
            try:
                values = partition_values(name)
                for block in part.blocks(cells):
                    rows = len(next(iter(block.values()), ()))
                    found = {key: self._repeated(value, rows) for key, value in values.items()} | dict(block)
                    yield {column: found[column] for column in self.names}
            except ServiceError as error:
                raise type(error)(f"{name}: {error}") from error

    def _repeated(self, text: str, rows: int) -> Any:
        if self.is_text:
            return [text] * rows
        import pyarrow

        return pyarrow.repeat(text, rows)  # `array` would import pandas where it is installed


def open_table(
    path: Path, separator: str | None = None, decimal: Decimal | None = None, wanted: Collection[str] = ()
) -> TableSource:
    """Open a table by its ending: .csv, .tsv or .parquet, perhaps compressed, or a folder of such parts.

    Marks of a text are found unless they are given; `wanted` columns are kept, also if they are an index.

    Raises:
        FileNotFoundError: there is no such file.
        Malformed, NotEnabled, Unfit: it cannot be read; says why, and what was expected.
    """
    if path.is_dir():
        parts = parts_of(path)
        names = [part.relative_to(path).as_posix() for part in parts]
        opened = [open_table(part, separator, decimal, wanted) for part in parts]
        return PartedTable(list(zip(names, opened, strict=True)))
    ending = kind_of_file(path)
    if ending not in TABLES:
        raise Unfit(f"tables are read from {', '.join(TABLES)}, also compressed; save the table as one")
    return table_of(lambda: path.open("rb"), ending, separator, decimal, wanted)


def table_of(
    opened: Callable[[], BinaryIO],
    ending: str,
    separator: str | None = None,
    decimal: Decimal | None = None,
    wanted: Collection[str] = (),
    bounds: TableBounds | None = None,
) -> TableSource:
    """Return the table in what `opened` opens, by the ending of its kind; `bounds` are those of requests."""
    try:
        if ending == ".parquet":
            return ParquetTable(opened, wanted, bounds)
        return TextTable(opened, USUAL_SEPARATORS[ending], separator, decimal, bounds, wanted)
    except (ServiceError, FileNotFoundError):
        raise
    except UNREADABLE as error:
        raise Malformed(f"it cannot be read: {sentence(error)}; save it anew") from error


def whole(
    table: TableSource, most_rows: int = sys.maxsize, blocks: Callable[[], Iterator[Block]] | None = None
) -> dict[str, Any]:
    """Return the rows of a table, or the first of them, as one block; `blocks` by default are the table's."""
    read: list[Block] = []
    rows = 0
    for block in (blocks or table.blocks)():
        read.append(block)
        rows += len(next(iter(block.values()), ()))
        if rows >= most_rows:
            break
    if not read:
        return {name: [] for name in table.names}
    if all(isinstance(values, list) for values in read[0].values()):
        return {name: [value for block in read for value in block[name]] for name in table.names}
    import pyarrow

    return {name: pyarrow.chunked_array([block[name] for block in read]) for name in table.names}
