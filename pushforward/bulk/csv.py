"""Rows of CSV and TSV files: an index of the places of their records, and the records of a piece."""

from __future__ import annotations

import csv as csv_format
import io
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any, BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from pushforward.bulk.failures import BulkMistake, UnfitInput, UnreadableInput
from pushforward.bulk.rows import Piece, RowForm, Rows, rows_from_table, wanted_columns
from pushforward.bulk.sources import InputFile, RowSource, read_exactly
from pushforward.bulk.storage import Storage
from service.errors import ServiceError
from service.media.tables.cells import MISSING
from service.media.tables.dialect import Dialect, find_dialect
from service.media.tables.opening import SAMPLE_BYTES, UNREADABLE, sentence, uncompressed, utf8_of
from service.media.tables.sources import BLANK

_STRIDE: Final = 512
"""The count of records from one place in the index to the next."""
_LONGEST_SHOWN: Final = 60
"""The longest piece of a name in a message, in characters."""
_BLOCK_BYTES: Final = 2**24
_TAIL_BYTES: Final = 2**12
_QUOTE, _NEWLINE, _RETURN = b'"'[0], b"\n"[0], b"\r"[0]
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"


class CsvSource(RowSource):
    """Tables in text with a line of column names, perhaps compressed or in UTF-16.

    Such a file is unpacked as it is read forward, and what is in UTF-16 or in .zst is held in memory.
    """

    kind = "csv"

    def __init__(
        self,
        storage: Storage,
        location: str,
        form: RowForm,
        paths: Sequence[tuple[str, str]],
        usual: str,
    ) -> None:
        """Read the files once, to find where records begin.

        `usual` is the mark between values, unless another one fits a file.

        Raises:
            BulkMistake: a file is not such a table.
            UnreadableInput: a file cannot be read to its end.
        """
        self._storage = storage
        self._dialects: list[Dialect] = []
        self._headers: list[bytes] = []
        self._places: list[NDArray[np.int64]] = []
        files = []
        for path, name in paths:
            facts = storage.facts(path)
            try:
                with ExitStack() as stack:
                    file = self._content(path, stack)
                    start = file.read(SAMPLE_BYTES)
                    sample = start.removeprefix(_BYTE_ORDER_MARK).decode("utf-8", "replace")
                    wanted, is_cut = [column.name for column in form.columns], len(start) == SAMPLE_BYTES
                    self._dialects.append(find_dialect(sample, usual, is_cut=is_cut, wanted=wanted))
                    file.seek(0)
                    header, places, rows = _index(file, path, self._dialects[-1].separator)
            except UNREADABLE as error:
                raise UnreadableInput(f"{path} cannot be read: {sentence(error)}; save it anew") from error
            self._headers.append(header)
            self._places.append(places)
            files.append(InputFile(path, name, facts, rows))
        super().__init__(storage, location, form, files)
        self._names = [self._chosen(index) for index in range(len(files))]

    def _content(self, path: str, stack: ExitStack) -> BinaryIO:
        raw = super()._content(path, stack)
        try:
            return stack.enter_context(utf8_of(stack.enter_context(uncompressed(raw))))
        except ServiceError as error:
            raise BulkMistake(f"{path}: {error}") from error

    def _chosen(self, index: int) -> list[str]:
        """Return the columns to read from a file."""
        path = self.files[index].path
        names = self._parsed(index, self._headers[index] + b"\n", [], {}).column_names
        if len(names) == 1 and self.form.values > 1 and any(other in names[0] for other in ";\t|,"):
            raise BulkMistake(
                f"{path}: its only column is called {names[0][:_LONGEST_SHOWN]!r}, so something else than "
                f"{self._dialects[index].separator!r} is between the values; save a "
                ".csv with commas, or a .tsv with tabs"
            )
        wanted = [column.name for column in self.form.columns] or names
        if self.form.id_column:
            wanted = [*wanted, self.form.id_column]
        twice = [name for name in wanted if names.count(name) > 1]
        if twice:
            raise BulkMistake(
                f"{path}: column {twice[0]!r} is there {names.count(twice[0])} times; rename one"
            )
        return wanted_columns(dict.fromkeys(names, "number"), self.form, "", path)[1]

    def _read(self, index: int, start: int, stop: int) -> Rows:
        places, file = self._places[index], self.files[index]
        first, last = start // _STRIDE, -(-stop // _STRIDE)
        content = read_exactly(self._file(index), int(places[first]), int(places[last] - places[first]))
        begin = first * _STRIDE
        rows = min(last * _STRIDE, file.rows) - begin
        table = self._table(index, self._headers[index] + b"\n" + content)
        if table.num_rows != rows:
            raise UnfitInput(
                f"{file.path}: rows {begin} to {begin + rows - 1} are read as {table.num_rows} records; "
                "look for quotes that are not doubled inside of quotes"
            )
        wanted = table.slice(start - begin, stop - start)
        piece = Piece(file.path, start)
        return rows_from_table(wanted, self.form, "", piece, self._dialects[index].decimal)

    def _table(self, index: int, content: bytes) -> Any:
        import pyarrow

        texts, names = pyarrow.string(), self._names[index]
        kinds = {
            column.name: texts
            for column in self.form.columns
            if column.categories or any(isinstance(code, str) for code in column.codes)
        }
        if self.form.id_column:
            kinds[self.form.id_column] = texts  # with the zeros before it
        numbers = {name: pyarrow.float64() for name in names if name not in kinds}
        try:
            return self._parsed(index, content, names, kinds | numbers)
        except UnfitInput:
            # what is no number to the reader may be a truth value
            if self.form.columns:
                kinds = dict.fromkeys(names, texts)
            return self._parsed(index, content, names, kinds)

    def _parsed(self, index: int, content: bytes, names: list[str], kinds: dict[str, Any]) -> Any:
        import pyarrow
        from pyarrow import csv

        path, dialect = self.files[index].path, self._dialects[index]
        if dialect.skips_spaces:
            content = _without_spaces(content, dialect.separator)
        try:
            table = csv.read_csv(
                io.BytesIO(content),
                read_options=csv.ReadOptions(use_threads=False, block_size=max(2**20, len(content) + 1)),
                parse_options=csv.ParseOptions(delimiter=dialect.separator, newlines_in_values=True),
                convert_options=csv.ConvertOptions(
                    column_types=kinds,
                    include_columns=names,
                    null_values=sorted(MISSING),
                    decimal_point=dialect.decimal,
                ),
            )
            list(table.column_names)  # decoded on access: names that are not UTF-8 fail here
        except (pyarrow.ArrowException, UnicodeDecodeError) as error:
            raise UnfitInput(
                f"{path} cannot be read: {error}; wanted UTF-8 text, a line of column names first, "
                f"{dialect.separator!r} between values"
            ) from error
        return table


def _without_spaces(content: bytes, separator: str) -> bytes:
    """Return records without the spaces behind separators, which pyarrow takes for a part of values."""
    text, written = (
        io.TextIOWrapper(io.BytesIO(content), "utf-8", "surrogateescape", newline=""),
        io.StringIO(),
    )
    rows = csv_format.reader(text, delimiter=separator, skipinitialspace=True)
    csv_format.writer(written, delimiter=separator, lineterminator="\n").writerows(rows)
    return written.getvalue().encode("utf-8", "surrogateescape")


def _index(file: BinaryIO, path: str, separator: str) -> tuple[bytes, NDArray[np.int64], int]:
    """Find the records of a file: one ends at each line end outside of quotes; empty lines are none.

    Blank records at the end, of separators, spaces and empty quotes, are left out, as `TextTable` does; here
    also those whose quotes hold nothing but separators.

    Returns:
        The header without its line end; the place of every `_STRIDE`-th record, and last their end; and the
        count of records after the header.
    """
    blanks = np.isin(np.arange(256), [*f'{separator}{BLANK}"\r\n'.encode()])
    # the place of the last byte of a value, and of the first record that begins after it, and their count
    last, blank_from, blank_records = -1, 0, 0
    kept: list[NDArray[np.int64]] = []
    header_end = begin = size = records = 0
    inside, previous = False, _NEWLINE  # of quotes; the byte before a block
    while block := file.read(_BLOCK_BYTES):
        array = np.frombuffer(block, np.uint8)
        ends = np.flatnonzero(array == _NEWLINE)
        quotes = np.flatnonzero(array == _QUOTE)
        if len(quotes) or inside:
            ends = ends[(np.searchsorted(quotes, ends) + inside) % 2 == 0]
            inside = (len(quotes) + inside) % 2 == 1
        starts = np.concatenate([[begin], ends[:-1] + 1 + size]) if len(ends) else np.empty(0, np.int64)
        lengths = ends + size - starts
        # a line of one character may be a carriage return alone
        before = np.where(ends > 0, array[np.maximum(ends - 1, 0)], previous)
        bare, previous = (lengths == 1) & (before == _RETURN), array[-1]
        filled = np.flatnonzero((lengths > 0) & ~bare)
        starts = starts[filled]
        if not header_end and len(filled):
            header_end, starts = int(ends[filled[0]]) + size, starts[1:]
        kept.append(starts[-records % _STRIDE :: _STRIDE].astype(np.int64))
        records += len(starts)
        begin = int(ends[-1]) + 1 + size if len(ends) else begin
        if (place := _last_of(array, blanks)) is not None:
            last, blank_records = size + place, 0
        after = starts[starts > last]
        if len(after):
            blank_from = blank_from if blank_records else int(after[0])
            blank_records += len(after)
        size += len(block)
    if inside:
        raise BulkMistake(f"{path} ends inside of quotes; save it anew")
    if begin <= last:  # a last line without an end
        if not header_end:
            header_end = size
        else:
            kept.append(np.array([begin] if records % _STRIDE == 0 else [], np.int64))
            records += 1
    header = read_exactly(file, 0, header_end).removeprefix(_BYTE_ORDER_MARK).strip(b"\r\n")
    if not records and b"\r" in header:
        raise BulkMistake(f"{path} has lines that end in carriage returns alone; save it with line feeds")
    if not header:
        raise BulkMistake(f"{path} is empty; wanted a line of column names, and rows")
    end = blank_from if blank_records else begin if begin > last else size
    places = np.concatenate([*kept, np.empty(0, np.int64)])
    return header, np.append(places[places < end], end), records - blank_records


def _last_of(block: NDArray[np.uint8], blanks: NDArray[np.bool_]) -> int | None:
    """Return the place of the last byte of a block that is none of the blank ones, or None without one."""
    for end in range(len(block), 0, -_TAIL_BYTES):
        start = max(0, end - _TAIL_BYTES)
        found = np.flatnonzero(~blanks[block[start:end]])
        if len(found):
            return start + int(found[-1])
    return None
