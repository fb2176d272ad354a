"""Rows of Parquet files and of partitioned folders, read forward through their row groups."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np

from pushforward.bulk.failures import BulkMistake
from pushforward.bulk.rows import Piece, RowForm, Rows, rows_from_table, wanted_columns
from pushforward.bulk.sources import InputFile, RowSource
from pushforward.bulk.storage import Storage
from service.media.tables.opening import partition_values

_BATCH_BYTES: Final = 2**22
"""Size of the batches that a row group is read in, in bytes of float32."""
_BUFFER_BYTES: Final = 2**20


class ParquetSource(RowSource):
    """Tables in Parquet files. Folders named KEY=VALUE are columns of the rows in them.

    A source reads forward, from one part to a later one, and decodes a row group at most once on the way.
    """

    kind = "parquet"

    def __init__(
        self, storage: Storage, location: str, form: RowForm, paths: Sequence[tuple[str, str]], column: str
    ) -> None:
        """Read the files' footers.

        Raises:
            BulkMistake: a file is not a Parquet file, or lacks what the model takes.
        """
        import pyarrow

        self._column = column
        self._group_starts: list[list[int]] = []
        self._id_type: Any = None
        files = []
        for path, name in paths:
            facts = storage.facts(path)
            try:
                with storage.open(path) as file:
                    metadata = _opened(file).metadata
            except pyarrow.ArrowException as error:
                raise BulkMistake(f"{path} is not a Parquet file: {error}; save it anew") from error
            sizes = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
            self._group_starts.append([0, *np.cumsum(sizes, dtype=int).tolist()])
            files.append(InputFile(path, name, facts, metadata.num_rows))
        super().__init__(storage, location, form, files)
        self._cursor: _Cursor | None = None
        with contextlib.closing(self):
            for index in range(len(files)):
                self._reader(index)

    def close(self) -> None:
        """Close what is open."""
        self._cursor = None
        super().close()

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"_cursor": None}

    def _read(self, index: int, start: int, stop: int) -> Rows:
        import pyarrow

        try:
            table = self._cursor_at(index, start).take(start, stop)
        except pyarrow.ArrowException as error:  # some of them are OSErrors, others not
            raise OSError(str(error)) from error
        for name, value in self._partitions(index).items():
            if name in self._names and name not in table.column_names:
                table = table.append_column(name, self._partition_column(name, value, table.num_rows))
        return rows_from_table(table, self.form, self._chosen, Piece(self.files[index].path, start))

    def _cursor_at(self, index: int, start: int) -> _Cursor:
        """Return a cursor that reaches a row without decoding row groups before it."""
        starts = self._group_starts[index]
        group = int(np.searchsorted(starts, start, side="right")) - 1
        cursor = self._cursor
        if cursor is None or cursor.index != index or not starts[group] <= cursor.row <= start:
            reader = self._reader(index)
            rows = max(64, _BATCH_BYTES // self.form.row_bytes)
            # a batch that spans two row groups fails if either is damaged
            batches = (
                batch
                for each in range(group, len(starts) - 1)
                for batch in reader.iter_batches(
                    rows, row_groups=[each], columns=self._stored, use_threads=False
                )
            )
            cursor = self._cursor = _Cursor(index, batches, starts[group])
        return cursor

    def _reader(self, index: int) -> Any:
        """Open a file, and choose its columns."""
        reader, path = _opened(self._file(index)), self.files[index].path
        types = {field.name: _kind(field.type) for field in reader.schema_arrow}
        if len(types) < len(reader.schema_arrow):
            raise BulkMistake(f"{path} has two columns of one name; rename one")
        tabular = self.form.columns or self.form.id_column
        partitions = self._partitions(index) if tabular else {}
        every = dict.fromkeys(partitions, "other") | types
        self._chosen, self._names = wanted_columns(every, self.form, self._column, path)
        self._stored = [name for name in self._names if name in types]
        self._check_type_of_ids(reader.schema_arrow, path)
        return reader

    def _check_type_of_ids(self, schema: Any, path: str) -> None:
        """Raise BulkMistake unless the ids have one type in all files."""
        from pyarrow import types

        name = self.form.id_column
        if name not in schema.names:
            return
        kind = schema.field(name).type
        kind = kind.value_type if types.is_dictionary(kind) else kind
        if kind != (self._id_type or kind):
            raise BulkMistake(
                f"{path}: column {name!r} holds {kind}, and {self._id_type} in a file before; save them alike"
            )
        self._id_type = kind

    def _partition_column(self, name: str, value: str, rows: int) -> Any:
        """Return a column of one value, which is a number where the model takes one."""
        import pyarrow

        text = name == self.form.id_column or any(
            column.name == name and column.categories for column in self.form.columns
        )
        try:
            return pyarrow.repeat(value if text else float(value), rows)
        except ValueError:
            return pyarrow.repeat(value, rows)

    def _partitions(self, index: int) -> dict[str, str]:
        """Return the columns that the names of a file's folders give."""
        return partition_values(self.files[index].name)


class _Cursor:
    """A place among the batches of a file."""

    def __init__(self, index: int, batches: Iterator[Any], row: int) -> None:
        self.index = index
        self.row = row
        """The next row that can be taken."""
        self._batches = batches
        self._batch: Any = None
        self._batch_start = row

    def take(self, start: int, stop: int) -> Any:
        """Return the rows from `start`, not before `row`, up to `stop` as a `pyarrow.Table`."""
        import pyarrow

        pieces = []
        while self.row < stop:
            if self._batch is None or self._batch_start + len(self._batch) <= self.row:
                self._batch_start += 0 if self._batch is None else len(self._batch)
                self._batch = next(self._batches, None)
                if self._batch is None:
                    raise EOFError("the file has fewer rows than its footer says")
                self.row = self._batch_start
            offset = max(start, self.row) - self._batch_start
            rows = min(stop - self._batch_start, len(self._batch)) - offset
            if rows > 0:
                pieces.append(self._batch.slice(offset, rows))
            self.row = min(max(stop, self.row), self._batch_start + len(self._batch))
        return pyarrow.Table.from_batches(pieces)


def _opened(file: Any) -> Any:
    """Return a reader that holds a small buffer rather than whole row groups."""
    from pyarrow import parquet

    return parquet.ParquetFile(
        file, pre_buffer=False, buffer_size=_BUFFER_BYTES, page_checksum_verification=True
    )


def _kind(type_: Any) -> str:
    """Return `list`, `number` or `other` for the type of a column."""
    from pyarrow import types

    if types.is_list(type_) or types.is_large_list(type_) or types.is_fixed_size_list(type_):
        return "list"
    numeric = (types.is_integer, types.is_floating, types.is_boolean, types.is_decimal)
    return "number" if any(is_one(type_) for is_one in numeric) else "other"
