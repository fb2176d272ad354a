"""The output folder: the plan, the parts and their records, and the manifest once all are there.

    _plan.json           what is made here; written once, by whoever comes first
    part-00000.parquet   written aside and renamed into place
    _parts/00000.json    its record, written after it: rows, size and hash
    _manifest.json       the plan and all records; written once no part is missing

Every file has the same bytes whoever writes it, so it does not matter if two processes do.
"""

from __future__ import annotations

import errno
import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Final

from pushforward.bulk.failures import BulkError, BulkMistake, Disagreement, OutputFailed
from pushforward.bulk.plan import FORMAT, Plan
from pushforward.bulk.storage import PARTIAL, joined, storage_of

PLAN: Final = "_plan.json"
MANIFEST: Final = "_manifest.json"
RECORDS: Final = "_parts"
_NO_ROOM: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_RECORD: Final = re.compile(r"(\d+)\.json")


def file_of(part: int) -> str:
    """Return the name of a part's file."""
    return f"part-{part:05}.parquet"


@dataclass(frozen=True)
class PartRecord:
    """The record of a finished part."""

    part: int
    rows: int
    bytes: int
    sha256: str
    input_sha256: str | None
    """The hash of the rows that it was made from, as float32; None for `sample`."""

    @property
    def file(self) -> str:
        """Return the name of the part's file."""
        return file_of(self.part)


class OutputFolder:
    """A folder of parts, by path or URL."""

    def __init__(self, location: str) -> None:
        self.location = location
        self._storage = storage_of(location)

    def check(self, plan: Plan) -> Plan | None:
        """Return the plan that is there already, or None.

        Raises:
            BulkMistake: the folder has other files, or the plan of other work; says what differs.
        """
        names = self._storage.names(self.location)
        if PLAN not in names:
            if visible := [name for name in names if not name.startswith(".")]:
                raise BulkMistake(
                    f"{self.location} holds other files, such as {visible[0]}; name an empty or a new folder"
                )
            return None
        there = self._plan()
        if differences := plan.differences(there):
            lines = "".join(f"\n  {line}" for line in differences)
            raise BulkMistake(
                f"{self.location} holds the parts of other work:{lines}\nName another --out folder, or give "
                "the same command again"
            )
        return there

    def claim(self, plan: Plan) -> None:
        """Write the plan unless one is there, which must be the same.

        Raises:
            BulkMistake: other work has begun in the folder, or it is a file.
            OutputFailed: the folder cannot be written.
        """
        if self.check(plan) is None:
            try:
                self._storage.write_new(self._path(PLAN), _json(plan.document()))
            except OSError as error:
                raise self._failed(error) from error
            self.check(plan)

    def write_part(self, record: PartRecord, content: memoryview) -> None:
        """Write a part, and then its record.

        Raises:
            OutputFailed: they cannot be written.
        """
        try:
            self._storage.write(self._path(record.file), content)
            self._storage.write(self._path(RECORDS, f"{record.part:05}.json"), _json(asdict(record)))
        except OSError as error:
            raise self._failed(error) from error

    def flush(self, part: int) -> None:
        """Return once a part is on the disk, and not only in the memory of this machine.

        Raises:
            OutputFailed: it cannot be written there.
        """
        try:
            self._storage.flush(self.location, file_of(part))
        except OSError as error:
            raise self._failed(error) from error

    def recorded(self) -> set[int]:
        """Return the parts that have a record."""
        found = map(_RECORD.fullmatch, self._storage.names(joined(self.location, RECORDS)))
        return {int(record[1]) for record in found if record is not None}

    def record(self, part: int) -> PartRecord:
        """Return the record of a part."""
        stored = json.loads(self._storage.read(self._path(RECORDS, f"{part:05}.json")))
        return PartRecord(**stored)

    def is_whole(self, part: int) -> bool:
        """Return True if the file of a recorded part has the hash of its record."""
        try:
            record = self.record(part)
            content = self._storage.read(self._path(record.file))
        except (OSError, ValueError, TypeError):
            return False
        return hashlib.sha256(content).hexdigest() == record.sha256

    def finish(self, plan: Plan) -> bool:
        """Write the manifest if all parts are recorded, and remove what was left aside. Return True if so.

        Raises:
            Disagreement: a manifest is there, and names other bytes.
            OutputFailed: the manifest cannot be written.
        """
        recorded = self.recorded()
        if not recorded >= set(range(plan.parts)):
            return False
        try:
            records = [self.record(part) for part in range(plan.parts)]
            files = [{"file": record.file, **asdict(record)} for record in records]
            content = _json({**self._plan().document(), "files": files})
            path = self._path(MANIFEST)
            if not self._storage.write_new(path, content) and self._storage.read(path) != content:
                raise Disagreement(
                    f"{path} names other bytes than the parts have now: parts that were made again came out "
                    "differently; compare the machines and libraries, and start again in another folder"
                )
            self._remove_partial()
        except OSError as error:
            raise self._failed(error) from error
        return True

    def _remove_partial(self) -> None:
        """Remove the parts and records that killed processes were writing; all of them are there by now.

        Another shard may be writing the manifest at this moment, so that is left alone.
        """
        places = [(self.location, ".part-"), (self._path(RECORDS), ".")]
        for folder, beginning in places:
            for name in self._storage.names(folder):
                if name.startswith(beginning) and name.endswith(PARTIAL):
                    self._storage.remove(joined(folder, name))

    def _plan(self) -> Plan:
        path = self._path(PLAN)
        try:
            document = json.loads(self._storage.read(path))
            if document["format"] != FORMAT:
                raise ValueError(f"its format is {document['format']}, not {FORMAT}")  # noqa: TRY301
            return Plan.of_document(document)
        except (ValueError, KeyError, TypeError) as error:
            raise BulkMistake(f"{path} is not a plan of bulk work: {error}; name another folder") from error

    def _path(self, *names: str) -> str:
        return joined(self.location, *names)

    def _failed(self, error: OSError) -> BulkError:
        if isinstance(error, FileExistsError | NotADirectoryError):
            return BulkMistake(f"{self.location} is a file, or in one; name an empty or a new folder")
        if error.errno in _NO_ROOM:
            there = len(self.recorded())
            return OutputFailed(
                f"{self.location}: there is no room for the next file ({error.strerror}); parts that are "
                f"there and whole: {there}. Make room and give the same command again: it makes the others"
            )
        return OutputFailed(
            f"{self.location} cannot be written: {error}; put that right and give the same command again"
        )


def missing_parts(output: OutputFolder, parts: Iterable[int]) -> tuple[list[int], list[int]]:
    """Return the parts without a whole file, and those of them that are damaged; reads what is there."""
    recorded = output.recorded()
    missing, damaged = [], []
    for part in parts:
        if part in recorded and output.is_whole(part):
            continue
        missing.append(part)
        if part in recorded:
            damaged.append(part)
    return missing, damaged


def _json(document: Any) -> bytes:
    return (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode()
