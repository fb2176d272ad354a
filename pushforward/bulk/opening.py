"""Open an input by the ending of its name."""

from __future__ import annotations

from pushforward.bulk.csv import CsvSource
from pushforward.bulk.failures import BulkMistake
from pushforward.bulk.npy import NpySource
from pushforward.bulk.parquet import ParquetSource
from pushforward.bulk.rows import RowForm
from pushforward.bulk.sources import RowSource, found_files
from service.media.tables.opening import USUAL_SEPARATORS


def open_source(location: str, form: RowForm, column: str = "") -> RowSource:
    """Open the rows of a file, or of a folder of files of one kind, for reading piece by piece.

    Args:
        location: Path or URL.
        form: The rows to read.
        column: The column of lists in Parquet files that holds the rows; empty if there is only one.

    Raises:
        BulkMistake: there is no such input, or it does not hold such rows.
    """
    storage, paths, ending = found_files(location)
    if column and ending != ".parquet":
        raise BulkMistake(f"{location}: --column names a column of lists, which only Parquet files have")
    if form.id_column and ending == ".npy":
        raise BulkMistake(f"{location}: --id names a column of a table, and arrays in .npy have none")
    source: RowSource
    if ending == ".npy":
        source = NpySource(storage, location, form, paths)
    elif ending in USUAL_SEPARATORS:
        source = CsvSource(storage, location, form, paths, USUAL_SEPARATORS[ending])
    elif ending == ".parquet":
        source = ParquetSource(storage, location, form, paths, column)
    else:
        raise BulkMistake(
            f"{location}: files ending in {ending} are not read; wanted .npy, .csv, .tsv or .parquet"
        )
    if not source.rows:
        raise BulkMistake(f"{location} has no rows")
    return source
