"""Rows of a table by the names of its columns: JSON records, CSV and Parquet, read as features."""

from __future__ import annotations

import io
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime, time
from types import NoneType
from typing import Any, Final, NamedTuple

import numpy as np
import orjson

from service.api.answer import CSV, JSON, PARQUET
from service.api.body import ENVELOPE_BYTES, inflated_bytes
from service.api.operations.call import RowIds
from service.errors import LimitExceeded, Malformed, Unfit, UnsupportedMedia
from service.format.manifest import Manifest
from service.media.tables.bounds import TableBounds
from service.media.tables.cells import kind_of, plain_values
from service.media.tables.matching import ClassColumn, TableForm, check_names, features_of, table_of_records
from service.media.tables.opening import compression_of
from service.media.tables.sources import table_of
from service.numerics.noise import Floats
from service.settings import Settings

_BYTES_PER_CELL: Final = 32
"""Room for a number in a text, its separator and white space."""
_PARQUET_BYTES_PER_CELL: Final = 16
_UNKNOWN_CELLS: Final = 64
"""Cells of a row for an id, and for columns that nobody knows, so that an error can name them."""
_ESCAPED: Final = 6
"""Most bytes of a character of one byte in JSON."""
_BLOCK_CELLS: Final = 2**17
"""Cells of a file that are text at once; the numbers of all rows are kept."""
_LONGEST_SHOWN: Final = 200
_LONGEST_ID: Final = 1_000
_JSON_IDS: Final = frozenset({str, int, float, bool, NoneType, date, datetime, time})
"""The types of ids that are written as JSON, dates and times by ISO 8601."""
_FOOTER_BYTES_PER_CELL: Final = 512
_SEPARATORS: Final = (b",", b";", b"\t", b"|")
_NO_JSON: Final = re.compile(rb'"\s*:\s*-?(NaN|Infinity)\s*[,}\]]')
"""Numbers that Python writes and JSON does not have."""


class NamedRows(NamedTuple):
    """Rows that came by the names of their columns."""

    rows: Floats
    """(B, F)."""
    ids: RowIds | None
    labels: Sequence[int] | None = None
    """The classes of the rows by number, if the table has a column of them that the version knows."""


class TableReader:
    """Reads rows of a version's table by the names of its columns."""

    def __init__(self, manifest: Manifest, settings: Settings) -> None:
        columns = [column.model_dump() for column in manifest.columns]
        self._form = TableForm.of(
            columns, left_out=manifest.ignored_columns, takes_missing=manifest.takes_missing
        )
        self._name, self._classes = manifest.name, None
        if manifest.label_column is not None:
            self._classes = ClassColumn(manifest.label_column, manifest.class_names)
        self._max_records, self._max_rows = settings.max_json_inputs, settings.max_npy_inputs
        self._most_cells = len(manifest.columns) + len(self._form.left_out) + _UNKNOWN_CELLS
        names = (*self._form.columns.items(), *((name, ()) for name in (*self._form.left_out, "id")))
        cells = [
            (len(name.encode()), max(_BYTES_PER_CELL, *(len(each.encode()) + 3 for each in categories), 0))
            for name, categories in names
        ]
        self._row_characters = ENVELOPE_BYTES + sum(name + cell for name, cell in cells)
        self.limits: Mapping[str, int] = {
            JSON: self._max_records * sum(_ESCAPED * name + 4 + cell for name, cell in cells),
            CSV: sum(name + cell for name, cell in cells) * (1 + self._max_rows),
            PARQUET: self._max_rows * self._most_cells * _PARQUET_BYTES_PER_CELL,
        }
        """Most bytes of a body, by its media type."""
        self.most_records = self._max_records, self._most_cells
        """Most records of a JSON body, and most cells of one."""

    def from_records(self, pieces: Sequence[bytes], id_name: str | None) -> NamedRows:
        """Read JSON texts of records, each a list of some, that `cut_records` has cut out of a body.

        Raises:
            Malformed, Unfit: they cannot be read, or do not fit.
        """
        records = [record for piece in pieces for record in _records(piece)]
        came = list(dict.fromkeys(name for record in records for name in record))
        names = self._without_ids(came, id_name)
        # before columns are made: each record may bring other names
        check_names(names, self._form, refuse_unknown=True)
        table, lacking = table_of_records(records, self._form)
        rows = features_of(
            table, self._form, names=names, pointer="/records", refuse_unknown=True, lacking=lacking
        )
        ids = None if id_name is None else RowIds(id_name, table[id_name])
        return NamedRows(rows, ids, self._labels(table, "/records"))

    def from_file(self, body: bytes, kind: str, id_name: str | None) -> NamedRows:
        """Read the whole of a CSV or Parquet file.

        Raises:
            LimitExceeded, Malformed, Unfit: it has too many rows, cannot be read, or does not fit.
            UnsupportedMedia: it is compressed.
            NotEnabled: Parquet came, and pyarrow is not installed.
        """
        if compression_of(body[:6]):
            raise UnsupportedMedia(
                "the file is compressed, as a .zip or an .xlsx is; send it as CSV or Parquet, or as gzip "
                "with `Content-Encoding`"
            )
        most = (1 + self._max_rows) * self._most_cells
        if kind == CSV and max(map(body.count, _SEPARATORS)) > most:
            raise LimitExceeded(f"more values came than {self._max_rows} rows of this model have")
        bounds = TableBounds(
            self._max_rows,
            self._row_characters,
            ENVELOPE_BYTES + self._most_cells * _FOOTER_BYTES_PER_CELL,
            inflated_bytes(len(body)),
        )
        ending = {CSV: ".csv", PARQUET: ".parquet"}[kind]
        label = None if self._classes is None else self._classes.name
        wanted = {name for name in (*self._form.columns, id_name, label) if name is not None}
        table = table_of(lambda: io.BytesIO(body), ending, wanted=wanted, bounds=bounds)
        names = self._without_ids(table.names, id_name)
        form = replace(self._form, decimal=table.dialect.decimal)
        check_names(names, form, refuse_unknown=True)
        parts: list[Floats] = []
        labels: list[int] = []
        ids: list[Any] = []
        count = 0
        for block in table.blocks(_BLOCK_CELLS):
            columns = dict(block)
            if id_name is not None:
                ids += _ids_of(columns.pop(id_name))
            labels += self._labels(columns, "/rows", count) or ()
            parts.append(features_of(columns, form, pointer="/rows", first_row=count))
            count += len(parts[-1])
            if count > self._max_rows:
                raise LimitExceeded(f"more than {self._max_rows} rows came; send several requests")
        if not parts:
            raise Unfit("a line of names came, and no rows; give it at least one")
        rows_ids = None if id_name is None else RowIds(id_name, ids)
        return NamedRows(np.concatenate(parts), rows_ids, labels or None)

    def _labels(self, table: Mapping[str, Any], pointer: str, first_row: int = 0) -> list[int] | None:
        """Return the classes of rows by number, if the version and the table have a column of them."""
        if self._classes is None or self._classes.name not in table:
            return None
        return self._classes.numbers(table[self._classes.name], pointer, first_row)

    def _without_ids(self, names: Sequence[str], id_name: str | None) -> list[str]:
        """Return the names of the columns less that of the ids, which has to be there once."""
        if id_name is None:
            return list(names)
        if id_name in self._form.columns:
            raise Unfit(f"`id` names a column of {self._name}; name one that the model does not know")
        if (came := list(names).count(id_name)) != 1:
            raise Unfit(f"`id` names the column {id_name[:40]!r}, which came {came} times, wanted once")
        return [name for name in names if name != id_name]


def _ids_of(values: Any) -> list[Any]:
    """Return the ids in a column of a file as JSON has them: what it does not have becomes text.

    Long ones are refused, since they are answered for each row, though all rows of a file may share one.
    """
    if kind_of(values) == "list":
        raise Unfit("`id` names a column of structures; name one of numbers or texts")
    ids = plain_values(values)
    if any(isinstance(each, str | bytes) and len(each) > _LONGEST_ID for each in ids):
        raise Unfit(f"an id has over {_LONGEST_ID} characters; name a shorter column as `id`")
    if _JSON_IDS.issuperset(map(type, ids)):
        return ids
    distinct = {id(each): each for each in ids}  # rows that share an object share its text
    texts = {place: each if type(each) in _JSON_IDS else _id_text(each) for place, each in distinct.items()}
    return [texts[id(each)] for each in ids]


def _id_text(value: Any) -> str:
    try:
        return value.decode() if isinstance(value, bytes) else str(value)
    except UnicodeDecodeError as error:
        raise Unfit("`id` names a column of bytes that are no text in UTF-8; save it as text") from error


def _records(piece: bytes) -> list[dict[str, Any]]:
    """Return the records of a piece; a key that is doubled in one is refused."""
    try:
        records: list[dict[str, Any]] = orjson.loads(piece)
    except orjson.JSONDecodeError as error:
        advice = (
            ", as NaN and Infinity are none; write null for a missing value" if _NO_JSON.search(piece) else ""
        )
        raise Malformed(f"the body is not JSON: {error.msg}{advice}") from error
    if sum(map(len, records)) != piece.count(b":"):  # a key came twice, or a text has a colon
        pairs: list[list[tuple[str, Any]]] = json.loads(piece, object_pairs_hook=list)
        counts = [Counter(name for name, _ in record) for record in pairs]
        if twice := dict.fromkeys(name for each in counts for name, count in each.items() if count > 1):
            shown = ", ".join(f"`{name[:_LONGEST_SHOWN]}`" for name in twice)
            raise Unfit(f"records have more than once {shown}; give each column one value")
    return records
