"""Results as files: PNG, npy, npz, CSV, Parquet and JSON, by the ending or to standard output.

Shapes: B rows of items, whose shape the model's manifest gives. A file is written aside and renamed into
place, so that an error or an interrupt leaves no half of one.
"""

from __future__ import annotations

import errno
import io
import os
import secrets
import shutil
import sys
import zipfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from pushforward.command.target import Model
from pushforward.display import named_table, png_of
from service.errors import NotEnabled, Unfit
from service.media import codecs
from service.media.tables.writing import csv_text, numbered_columns

FORMATS: Final = ("png", "npy", "npz", "csv", "parquet", "json")
TABLE_FORMATS: Final = FORMATS[1:]
_BINARY: Final = ("png", "npy", "npz", "parquet")
STDOUT: Final = "-"
MOST_PICTURES: Final = 4_096
"""Most items of one picture, as in the service."""

Chunks = Iterable[NDArray[Any]]
Table = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Destination:
    """The place of a result and its format, one of `FORMATS`; or `people`, for a terminal."""

    path: str
    form: str

    @property
    def for_people(self) -> bool:
        """Return True if the result is to be read in a terminal."""
        return self.form == "people"


def destination(
    out: str | None, form: str | None, *, text: str, forms: Sequence[str] = FORMATS
) -> Destination:
    """Return the destination that the options `--out` and `--as` name.

    Args:
        out: A path, or `-` or `/dev/stdout` for standard output. None is the same, but readable in a
            terminal.
        form: A format, which wins over the path's ending.
        text: The format for standard output by default, `csv` or `json`.
        forms: The formats that the result can have.

    Raises:
        Unfit: the ending is not that of such a format; names them. Or it is one of bytes, for a terminal.
        NotADirectoryError: there is no folder of that name to write to.
        IsADirectoryError: the path is a folder.
    """
    if out is None and form is None and sys.stdout.isatty():
        return Destination(STDOUT, "people")
    if out is None and form in _BINARY and sys.stdout.isatty():
        raise Unfit(f"{form} is no text for a terminal; name a file by --out, or `--out -` to have it here")
    if out in (None, STDOUT, "/dev/stdout"):  # a file there is not to be replaced: others write into it, too
        out, form = STDOUT, form or text
    else:
        form = form or Path(out).name.lower().rpartition(".")[2]
        if not Path(out).parent.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, "no such folder", str(Path(out).parent))
        if Path(out).is_dir():  # told before the work, not after it
            raise IsADirectoryError(errno.EISDIR, "a folder is there; name a file", out)
    if form in FORMATS and form not in forms:
        raise Unfit(f"this result cannot be written as {form}; write it as one of {', '.join(forms)}")
    if form not in FORMATS:
        raise Unfit(
            f"{out}: the ending says the format, and is one of .{', .'.join(FORMATS)}; or name it by --as"
        )
    return Destination(out, form)


@contextmanager
def opened(path: str) -> Iterator[IO[bytes]]:
    """Open a file for writing, which replaces the old one only once it is whole; or standard output.

    A link stays one, and a file keeps its permissions, as where a program writes into the old file.
    """
    target = Path(os.path.realpath(path))
    staged = target.with_name(f".{target.name}-{secrets.token_hex(4)}")
    try:
        with _opened(path, target, staged) as file:
            yield file
    except OSError as error:
        if error.filename is None:  # as where a disk is full
            error.filename = "standard output" if path == STDOUT else path
        elif error.filename == str(staged):
            error.filename, error.filename2 = path, None
        raise


@contextmanager
def _opened(path: str, target: Path, staged: Path) -> Iterator[IO[bytes]]:
    if path == STDOUT:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    if os.path.exists(path) and not os.path.isfile(path):  # a device or a pipe
        with open(path, "wb") as file:
            yield file
        return
    try:
        with staged.open("xb") as file:
            if target.exists():
                shutil.copymode(target, staged)
            yield file
        os.replace(staged, target)
    finally:
        staged.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class ItemsResult:
    """Items (B, *item) that come in chunks, and what is written or shown with them."""

    chunks: Chunks
    """Arrays (rows, *item), `count` rows in all."""
    count: int
    """B."""
    title: str
    """The line above the items in a terminal."""
    name: str
    """The name of the items in npz and JSON."""
    fields: Mapping[str, Any] = field(default_factory=dict)
    """The fields before the items in JSON, after those of the version."""
    others: Table = field(default_factory=dict)
    """Further arrays of B rows, by name, for npz and JSON."""
    places: Callable[[int, int], Table] = lambda _first, _last: {}
    """Returns arrays that tell the rows first .. last - 1 apart, by name, for tables, npz and JSON."""
    across: int | None = None
    """Items of a picture from left to right."""
    whole: Collection[str] = ()
    """The columns of a table that are written as integers."""


def check_pictures(where: Destination, count: int) -> None:
    """Raise Unfit if so many items do not go into the picture that they are for."""
    if where.form == "png" and count > MOST_PICTURES:
        raise Unfit(f"{count} items are more than the {MOST_PICTURES} that go into one picture")


def write_items(where: Destination, result: ItemsResult, model: Model, scale: int | None) -> None:
    """Write items of a version; npy, CSV and Parquet hold one chunk in memory at a time.

    `scale` is the number of pixels per pixel of an item, along each side of a picture.

    Raises:
        Unfit: there are too many items for one picture.
    """
    check_pictures(where, result.count)
    with opened(where.path) as file:
        if where.form == "npy":
            file.write(codecs.npy_header((result.count, *model.item_shape)))
            for chunk in result.chunks:
                file.write(np.ascontiguousarray(chunk, "<f4").tobytes())
        elif where.form in ("csv", "parquet"):
            write_tables(file, where.form, _tables(result, model))
        else:
            items = np.concatenate(list(result.chunks))
            if where.form == "png":
                file.write(png_of(items, model.view, result.across, scale))
            else:
                arrays = {**result.places(0, result.count), result.name: items, **result.others}
                _write_arrays(file, where.form, {**model.identity, **result.fields}, arrays)


def write_table(where: Destination, table: Table, fields: Mapping[str, Any], name: str) -> None:
    """Write a table of columns (B,): npy as records, JSON as `fields` and a list of rows under a name."""
    with opened(where.path) as file:
        if where.form in ("csv", "parquet"):
            write_tables(file, where.form, [table])
        elif where.form == "npy":
            np.save(file, _records(table), allow_pickle=False)
        elif where.form == "json":
            rows = zip(*(array.tolist() for array in table.values()), strict=True)
            file.write(_json({**fields, name: [dict(zip(table, row, strict=True)) for row in rows]}))
        else:
            _write_arrays(file, where.form, fields, table)


def _tables(result: ItemsResult, model: Model) -> Iterator[Table]:
    """Yield chunks of items as tables, after the places of their rows."""
    first = 0
    for chunk in result.chunks:
        last = first + len(chunk)
        yield {**result.places(first, last), **named_table(chunk, model.columns, result.whole)}
        first = last


def write_arrays(where: Destination, arrays: Table, fields: Mapping[str, Any], places: Table) -> None:
    """Write arrays (B, D): CSV and Parquet with a column for each number, npy the first array alone.

    `places` are arrays (B,) that tell the rows apart; npy has none of them.
    """
    with opened(where.path) as file:
        if where.form in ("csv", "parquet"):
            write_tables(file, where.form, [{**places, **numbered_columns(arrays)}])
        elif where.form == "npy":
            np.save(file, next(iter(arrays.values())), allow_pickle=False)
        else:
            _write_arrays(file, where.form, fields, {**places, **arrays})


def write_document(where: Destination, document: Mapping[str, Any]) -> None:
    """Write a document as JSON."""
    with opened(where.path) as file:
        file.write(_json(document))


def _records(table: Table) -> NDArray[Any]:
    """Return a table as an array of records (B,), whose fields are the columns."""
    kinds = [(name, array.dtype) for name, array in table.items()]
    records = np.empty(len(next(iter(table.values()))), kinds)
    for name, array in table.items():
        records[name] = array
    return records


def write_tables(file: IO[bytes], form: str, tables: Iterable[Table]) -> None:
    """Write tables with the same columns, one after the other, as one CSV or Parquet file."""
    if form == "parquet":
        _write_parquet(file, tables)
        return
    for number, table in enumerate(tables):
        file.write(csv_text(table, with_names=not number).encode())


def _write_parquet(file: IO[bytes], tables: Iterable[Table]) -> None:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise NotEnabled(
            "Parquet is written by pyarrow, which is not installed: pip install pyarrow"
        ) from None
    writer = None
    for table in tables:
        chunk = pyarrow.table({name: pyarrow.array(array) for name, array in table.items()})
        writer = writer or parquet.ParquetWriter(file, chunk.schema)
        writer.write_table(chunk)
    if writer is not None:
        writer.close()


def _write_arrays(file: IO[bytes], form: str, fields: Mapping[str, Any], arrays: Table) -> None:
    """Write arrays by name as npz, or after fields as JSON."""
    if form == "npz":
        held = io.BytesIO()  # since a zip needs a file that can seek
        with zipfile.ZipFile(held, "w") as archive:  # np.savez takes no array called `file`
            for name, array in arrays.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    npy_format.write_array(member, array, allow_pickle=False)
        file.write(held.getbuffer())
    else:
        # texts are no array that JSON can be made of
        lists = {name: each if each.dtype.kind in "fiub" else each.tolist() for name, each in arrays.items()}
        file.write(_json({**fields, **lists}))


def _json(document: Mapping[str, Any]) -> bytes:
    import orjson

    return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY) + b"\n"
