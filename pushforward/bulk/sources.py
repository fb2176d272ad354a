"""Inputs of bulk work: rows of one file or of a folder of files, read piece by piece.

Rows are numbered from 0 through all files in the order of their names. A source can be pickled, without
the files that it has open.
"""

from __future__ import annotations

import bisect
import hashlib
import itertools
import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any, BinaryIO, Final, NamedTuple

import numpy as np

from pushforward.bulk.failures import BulkMistake, UnreadableInput
from pushforward.bulk.rows import RowForm, Rows
from pushforward.bulk.storage import FileFacts, Storage, joined, storage_of
from service.media.tables.opening import ending_of

_EDGE_BYTES: Final = 2**16
"""The count of bytes at both ends of a file that its fingerprint covers."""


class InputFile(NamedTuple):
    """A file of an input."""

    path: str
    name: str
    """The path relative to the input's folder; the name of a single file is empty."""
    facts: FileFacts
    rows: int


class RowSource(ABC):
    """The rows of an input."""

    kind: str

    def __init__(self, storage: Storage, location: str, form: RowForm, files: Sequence[InputFile]) -> None:
        self.location = location
        self.form = form
        self.files = tuple(files)
        self._storage = storage
        self._starts = [0, *itertools.accumulate(file.rows for file in files)]
        self._opened: tuple[int, BinaryIO, ExitStack] | None = None

    @property
    def rows(self) -> int:
        """Return the count of rows in all files."""
        return self._starts[-1]

    def read(self, start: int, stop: int) -> Rows:
        """Read the rows from `start` up to `stop`.

        Raises:
            BulkMistake: the input has changed since the source was made.
            UnfitInput: rows are not of the form.
            UnreadableInput: a file cannot be read.
        """
        pieces, index = [], bisect.bisect_right(self._starts, start) - 1
        while start < stop:
            first = self._starts[index]
            last = min(stop, self._starts[index + 1])
            if last > start:
                pieces.append(self._read_checked(index, start - first, last - first))
            start, index = max(start, last), index + 1
        return pieces[0] if len(pieces) == 1 else _joined(pieces)

    def description(self) -> dict[str, Any]:
        """Return the input's description for a manifest.

        `fingerprint` is a hash of the files' names, sizes, and first and last bytes; `changed` one of the
        times of their last changes.
        """
        ends = [[file.name, file.facts.size_bytes, self._edges(file)] for file in self.files]
        return {
            "location": self.location,
            "kind": self.kind,
            "files": len(self.files),
            "bytes": sum(file.facts.size_bytes for file in self.files),
            "rows": self.rows,
            "fingerprint": _hash_of(ends),
            "changed": _hash_of([file.facts.changed for file in self.files]),
        }

    @abstractmethod
    def _read(self, index: int, start: int, stop: int) -> Rows:
        """Read rows of the file of an index, numbered from 0 in it."""

    def _read_checked(self, index: int, start: int, stop: int) -> Rows:
        file = self.files[index]
        try:
            if self._storage.facts(file.path) != file.facts:
                raise BulkMistake(
                    f"{file.path} has changed since the work began; start again with another --out folder"
                )
            return self._read(index, start, stop)
        except (OSError, EOFError) as error:
            self.close()
            reason = " ".join(str(error).split())
            raise UnreadableInput(
                f"{file.path}: rows {start} to {stop - 1} cannot be read: {reason}; put a whole file "
                "in the place of a damaged one"
            ) from error

    def _file(self, index: int) -> BinaryIO:
        """Return the file of an index, open; one file at most is open."""
        if self._opened is None or self._opened[0] != index:
            self.close()
            with ExitStack() as stack:
                content = self._content(self.files[index].path, stack)
                self._opened = index, content, stack.pop_all()
        return self._opened[1]

    def _content(self, path: str, stack: ExitStack) -> BinaryIO:
        """Open the content of a file; the stack closes it."""
        return stack.enter_context(self._storage.open(path))

    def close(self) -> None:
        """Close what is open."""
        if self._opened is not None:
            self._opened[2].close()
            self._opened = None

    def _edges(self, file: InputFile) -> str:
        with self._storage.open(file.path) as opened:
            first = opened.read(_EDGE_BYTES)
            opened.seek(max(0, file.facts.size_bytes - _EDGE_BYTES))
            return hashlib.sha256(first + opened.read(_EDGE_BYTES)).hexdigest()

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_opened": None}


def _joined(pieces: Sequence[Rows]) -> Rows:
    values = np.concatenate([piece.values for piece in pieces])
    if not pieces[0].ids:
        return Rows(values)

    import pyarrow  # without which there are no ids

    return Rows(
        values,
        {name: pyarrow.concat_arrays([piece.ids[name] for piece in pieces]) for name in pieces[0].ids},
    )


def _hash_of(listed: Any) -> str:
    return hashlib.sha256(json.dumps(listed).encode()).hexdigest()


def read_exactly(file: BinaryIO, start: int, size: int) -> bytes:
    """Read `size` bytes from `start` on. Raise EOFError if the file is shorter."""
    file.seek(start)
    content = file.read(size)
    if len(content) != size:
        raise EOFError(f"the file ends {size - len(content)} bytes early")
    return content


def found_files(location: str) -> tuple[Storage, list[tuple[str, str]], str]:
    """Return the storage of an input, its files as (path, name), and their common ending.

    Files and folders whose names begin with a dot or an underscore are left out, as other readers do.

    Raises:
        BulkMistake: there is no such input, or its files differ in kind.
    """
    storage = storage_of(location)
    if not storage.is_folder(location):
        try:
            storage.facts(location)
        except FileNotFoundError as error:
            raise BulkMistake(f"{location}: no such file or folder; correct the path") from error
        except OSError as error:
            raise UnreadableInput(f"{location} cannot be read: {error}") from error
        return storage, [(location, "")], _ending(location)
    names = [
        name
        for name in storage.names(location, recursive=True)
        if not any(part.startswith((".", "_")) for part in name.split("/"))
    ]
    endings = sorted({_ending(name) for name in names})
    if len(endings) != 1:
        came = f"files of several kinds: {', '.join(endings)}" if names else "no files"
        raise BulkMistake(f"{location} holds {came}; wanted .npy, .csv, .tsv or .parquet files of one kind")
    return storage, [(joined(location, name), name) for name in names], endings[0]


def _ending(name: str) -> str:
    return ending_of(name) or "(no ending)"
