"""Files that people have, read as rows for a model: tables, arrays, JSON, pictures and folders of them.

The format of a file is that of its ending; on standard input, that of its first bytes. Shapes: B rows of
items, whose shape the model's manifest gives.
"""

from __future__ import annotations

import errno
import io
import json
import os
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from pushforward.reading import Column, PictureForm, Shape, as_rows, ids_of, labels_in
from pushforward.results import Floats
from service.errors import Malformed, ServiceError, Unfit
from service.media.fitting import ENDINGS, PictureRule, item_of_file
from service.media.tables.cells import plain_values
from service.media.tables.matching import ClassColumn, TableForm, features_of, named
from service.media.tables.opening import UNREADABLE, is_folder_of_parts, kind_of_file, uncompressed
from service.media.tables.sources import TableSource, TextTable, open_table, table_of, whole

STDIN: Final = "-"
PICTURES: Final = tuple(ending.removeprefix(".") for ending in ENDINGS)
FORMATS: Final = ("csv", "tsv", "npy", "npz", "json", "parquet", *PICTURES)
_MAGIC: Final = {
    b"\x93NUMPY": "npy",
    b"PK\x03\x04": "npz",
    b"PAR1": "parquet",
    b"\x89PNG": "png",
    b"\xff\xd8\xff": "jpeg",
    b"RIFF": "webp",
    b"II*\0": "tiff",
    b"MM\0*": "tiff",
    b"[": "json",
    b"{": "json",
}
_ARRAY_NAMES: Final = ("inputs", "items", "latents", "samples", "mean")
"""The array to read of an .npz or JSON with several, by the first name that is there."""
_MOST_GAPS: Final = 4
"""Columns that lack values of which each is told of."""
_TABLES: Final = ("csv", "tsv", "parquet")


class ItemLayout(NamedTuple):
    """The items that a file is read for: their shape, and their columns if they are rows of a table."""

    shape: Shape
    columns: Sequence[Column] = ()
    id_name: str = ""
    """A column of tables that tells their rows apart; none if it is empty."""
    picture: PictureForm | None = None
    """The reading of files of pictures, as the manifest has it."""
    classes: ClassColumn | None = None
    """The column of tables that holds the class of each row, if the model takes it."""


@dataclass(slots=True)
class Inputs:
    """The rows of all files, and where each came from."""

    rows: Floats
    """(B, *item)."""
    places: dict[str, NDArray[Any]]
    """The arrays that tell rows apart, (B,): the column of ids, if one was named; `file`, if there are
    several; and `row`, the number in the file from 0."""
    notes: list[str] = field(default_factory=list)
    """Notes for the user, e.g. on columns that were left out."""
    labels: list[int] | None = None
    """The class of each row by number, if all files are tables that hold it."""

    @property
    def names(self) -> Mapping[str, NDArray[Any]]:
        """The places, if they say more than the order of the rows does; else none."""
        return {} if [*self.places] == ["row"] else self.places


class _Part(NamedTuple):
    """The rows of one file."""

    rows: Floats
    ids: Sequence[Any] = ()
    """The ids of the rows, if the layout names their column."""
    labels: list[int] | None = None


def read_inputs(names: Sequence[str], layout: ItemLayout, form: str = "") -> Inputs:
    """Read the items of files, of folders of pictures, and of standard input (`-`), in that order.

    Args:
        names: Paths, or `-`.
        layout: The shape and the columns of an item.
        form: The format of standard input, one of `FORMATS`; found by its first bytes if it is empty.

    Raises:
        FileNotFoundError: there is no such file.
        Malformed: a file cannot be read as what it is.
        NotEnabled: a package is not installed that reads it; says which.
        Unfit: the items do not fit the model; the message begins with the file's name.
    """
    notes: list[str] = []
    files = [file for name in names for file in _files(name, notes)]
    read = [_read(file, layout, form, notes) for file in files]
    parts = [part.rows for part in read]
    places: dict[str, NDArray[Any]] = {}
    if layout.id_name:
        places[layout.id_name] = np.array(
            [_id_text(each) for part in read for each in plain_values(part.ids)]
        )
    if len(files) > 1:
        places["file"] = np.repeat([str(file) for file in files], [len(part) for part in parts])
    if not all(_is_picture(file) for file in files) or len(files) == 1:
        places["row"] = np.concatenate([np.arange(len(part)) for part in parts])
    labels = [part.labels for part in read if part.labels is not None]
    together = [number for part in labels for number in part] if len(labels) == len(read) else None
    return Inputs(np.concatenate(parts), places, list(dict.fromkeys(notes)), together)


def _id_text(value: Any) -> str:
    """Return an id as text: nothing for a missing one."""
    if value is None:
        return ""
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)


def rows_of(inputs: Any, layout: ItemLayout) -> Floats:
    """Return items (B, *item): those of a file or a folder by its path, or of the caller by `as_rows`.

    Raises:
        ServiceError, OSError: as `read_inputs`.
    """
    if isinstance(inputs, str | os.PathLike):
        return read_inputs([os.fspath(inputs)], layout).rows
    return as_rows(inputs, layout.shape, layout.columns, layout.picture)


def _files(name: str, notes: list[str]) -> list[str | Path]:
    """Return a file or a folder of parts alone, or the pictures in a folder and its sub-folders, by name."""
    if name == STDIN:
        return [name]
    folder = Path(name)
    if not folder.exists():  # which matters more than its ending
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
    if not folder.is_dir():
        return [folder]
    inside = sorted(path for path in folder.rglob("*") if path.is_file())
    visible = [
        path for path in inside if not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]
    pictures = [path for path in visible if _is_picture(path)]
    if not pictures and is_folder_of_parts(folder):
        return [folder]
    if not pictures:
        raise Unfit(
            f"{folder}: no pictures are in this folder ({', '.join(PICTURES)}); name files, or another one"
        )
    if len(pictures) < len(visible):
        other = next(path for path in visible if not _is_picture(path))
        number = len(visible) - len(pictures)
        notes.append(
            f"{folder}: left out what is no picture: {number} of {len(visible)} files, e.g. {other.name}"
        )
    return list(pictures)


def _is_picture(file: str | Path) -> bool:
    return isinstance(file, Path) and file.suffix.lower().removeprefix(".") in PICTURES


def _read(file: str | Path, layout: ItemLayout, form: str, notes: list[str]) -> _Part:
    """Read one file as (B, *item), and the ids and the classes of its rows if it has them."""
    name = "standard input" if file == STDIN else str(file)
    try:
        data = _standard_input() if file == STDIN else b""
        form = _kind(Path(file)) if file != STDIN else form or _sniffed(data)
        if form not in FORMATS:
            raise Unfit(f"it is of no format that is read; these are: {', '.join(FORMATS)}")
        if form in _TABLES:
            part, found = _table_rows(_opened_table(file, form, data, layout), layout)
            notes += (f"{name}: {note}" for note in found)
            return part
        if file != STDIN:
            with Path(file).open("rb") as raw:
                data = (raw if form == "npz" else uncompressed(raw)).read()
        if form in PICTURES:
            item, done = item_of_file(io.BytesIO(data), layout.shape, PictureRule.of(layout.picture))
            notes += (f"pictures were changed as the model's were: {phrase}" for phrase in done)
            return _Part(item[None])
        content = _READERS[form](data)
        found_ids = ids_of(content, layout.id_name)[0] if layout.id_name else None
        rows = as_rows(content, layout.shape, layout.columns)
        ids = () if found_ids is None else found_ids.tolist()
        return _Part(rows, ids, labels_in(content, layout.classes))
    except ServiceError as error:
        raise type(error)(f"{name}: {error}", flaws=error.flaws) from error
    except UNREADABLE as error:
        raise Malformed(f"{name} cannot be read as {form}: {_sentence(error)}") from error


def _standard_input() -> bytes:
    """Return the bytes of standard input, with their compression undone."""
    data = sys.stdin.buffer.read()
    if _sniffed(data) == "npz" and _holds_arrays(data):
        return data
    return uncompressed(io.BytesIO(data)).read()


def _opened_table(file: str | Path, form: str, data: bytes, layout: ItemLayout) -> TableSource:
    """Open the table in a file or, on standard input, in the bytes that came."""
    wanted = [*(column["name"] for column in layout.columns), layout.id_name]
    wanted += [] if layout.classes is None else [layout.classes.name]
    if file == STDIN:
        return table_of(lambda: io.BytesIO(data), f".{form}", wanted=wanted)
    return open_table(Path(file), wanted=wanted)


def _kind(path: Path) -> str:
    """Return the format of a file by its ending; a folder of parts is one of Parquet."""
    if path.is_dir():
        return "parquet"
    return kind_of_file(path).removeprefix(".")


def _sniffed(data: bytes) -> str:
    """Return the format of bytes without a name; what is nothing else is CSV."""
    start = data.lstrip()[:8]
    return next((form for magic, form in _MAGIC.items() if start.startswith(magic)), "csv")


def _holds_arrays(data: bytes) -> bool:
    """Return True if a .zip is an .npz."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return any(name.endswith(".npy") for name in archive.namelist())


def _sentence(error: Exception) -> str:
    if "pickle" in str(error):
        return "it holds Python objects, which are never unpickled; save an array of numbers"
    return str(error) or type(error).__name__


def _table_rows(table: TableSource, layout: ItemLayout) -> tuple[_Part, list[str]]:
    """Return the rows of a table with their ids and classes, and what a user should know of it.

    That is which columns were left out, which cells are empty, and that there are no names.
    """
    form, notes = TableForm.of(layout.columns), [*table.notes]
    if layout.id_name and table.names.count(layout.id_name) != 1:
        raise Unfit(
            f"the ids are in the column `{layout.id_name}`, which is there "
            f"{table.names.count(layout.id_name)} times; wanted once. The columns are {named(table.names)}"
        )
    if (
        isinstance(table, TextTable)
        and table.first_line_is_numbers
        and not set(form.columns) <= {*table.names}
    ):
        table.number_columns()
        if layout.columns:
            notes.append(
                "there is no line of names; the values are taken in the order of the model's columns"
            )
        return _Part(_numbers_of(whole(table), layout, table.dialect.decimal)), notes
    values = whole(table)
    ids = values[layout.id_name] if layout.id_name else ()
    if not layout.columns:
        values = {name: column for name, column in values.items() if name != layout.id_name}
        return _Part(_numbers_of(values, layout, table.dialect.decimal), ids), notes
    notes += (f"left out `{each}`, {reason}" for each, reason in table.left_out.items())
    rows = features_of(values, replace(form, decimal=table.dialect.decimal), names=table.names)
    labels = labels_in(values, layout.classes)
    read = {*form.columns, layout.id_name, *([layout.classes.name] if layout.classes else [])}
    if extra := [each for each in table.names if each not in read]:
        notes.append(f"left out {named(extra)}, which the model does not have")
    return _Part(rows, ids, labels), [*notes, *_gaps(rows, form)]


def _gaps(rows: Floats, form: TableForm) -> Iterator[str]:
    """Yield what is missing from the columns that lack most values, and the number of the others."""
    empty = {name: np.flatnonzero(np.isnan(rows[:, place]).any(axis=1)) for name, place in form.places()}
    gaps = sorted(((name, each) for name, each in empty.items() if len(each)), key=lambda gap: -len(gap[1]))
    shown = gaps if len(gaps) <= _MOST_GAPS else gaps[: _MOST_GAPS - 1]
    for name, each in shown:
        yield f"the column `{name}` is empty in {len(each)} of {len(rows)} rows, first in row {each[0]}"
    if len(gaps) > len(shown):
        yield f"{len(gaps) - len(shown)} more columns are empty in some rows"


def _numbers_of(values: Mapping[str, Any], layout: ItemLayout, decimal: str) -> Floats:
    """Return columns of numbers, in the order of the model's values, as (B, *item)."""
    size = int(np.prod(layout.shape))
    if len(values) != size:
        raise Unfit(f"it has {len(values)} columns; wanted {size} numbers a row")
    form = TableForm(dict.fromkeys(values, ()), decimal)
    return features_of(values, form).reshape(-1, *layout.shape)


def _npz(data: bytes) -> Any:
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        return arrays[_chosen(arrays.files)]


def _json(data: bytes) -> Any:
    document = json.loads(data)
    if isinstance(document, dict):
        if "records" in document:
            return document["records"]
        lists = [name for name, value in document.items() if isinstance(value, list)]
        if any(name in lists for name in _ARRAY_NAMES):
            return document[_chosen(lists)]
    return document


def _chosen(names: Sequence[str]) -> str:
    """Return the name of the array to read among several."""
    if len(names) == 1:
        return names[0]
    for name in _ARRAY_NAMES:
        if name in names:
            return name
    raise Unfit(
        f"it has the arrays {', '.join(names) or '(none)'}; call the one to read `inputs`, or save it as .npy"
    )


_READERS: Final[Mapping[str, Callable[[bytes], Any]]] = {
    "npy": lambda data: npy_format.read_array(io.BytesIO(data), allow_pickle=False),
    "npz": _npz,
    "json": _json,
}
