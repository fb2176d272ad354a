"""Makes the parts of a plan, one after the other, in one process with one engine."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pushforward.bulk.failures import BulkError, UnfitInput, failure_of
from pushforward.bulk.operations import Operation, Operator, typed_options
from pushforward.bulk.output import OutputFolder, PartRecord
from pushforward.bulk.plan import Plan
from pushforward.bulk.sources import RowSource
from pushforward.bulk.tables import Encoder
from service.errors import Unfit
from service.runtime.session import Provider


@dataclass(frozen=True)
class Job:
    """All that a process needs to make parts of a plan; it can be sent to another process."""

    plan: Plan
    operation: Operation
    options: Mapping[str, Any]
    """The options as they were given."""
    folder: Path
    """The folder of the version."""
    provider: Provider
    source: RowSource | None
    """The input; None for `sample`."""
    seed: int | None
    """The seed of samples."""
    offset: int
    """The index of the first sample."""
    out: str


class PartMaker:
    """Makes parts of a job."""

    def __init__(self, job: Job) -> None:
        """Load the version, check the options, and claim the output folder.

        Raises:
            BulkError: the version cannot be loaded, does not offer this, or the folder is in other use.
        """
        self._job = job
        self._output = OutputFolder(job.out)
        self._encoder = Encoder()
        try:
            options = typed_options(job.operation, job.options)
            self._operator = Operator(job.folder, job.provider, job.operation, options, job.seed)
        except Exception as error:
            raise failure_of(error) from error
        try:
            self._output.claim(job.plan)
        except BulkError:
            self._operator.close()
            raise

    def make(self, part: int) -> PartRecord:
        """Compute a part and write it.

        Raises:
            BulkError: rows do not fit, a file cannot be read or written, or the computation failed.
        """
        job, rows = self._job, self._job.plan.rows_of(part)
        source_hash: str | None = None
        ids: Mapping[str, Any] = {}
        try:
            if job.source is None:
                columns, fields = self._operator.samples(job.offset, rows)
            else:
                inputs = job.source.read(rows.start, rows.stop)
                source_hash, ids = inputs.sha256(), inputs.ids
                columns, fields = self._operator.rows(inputs.values)
            described = {
                "operation": job.operation,
                "model": job.plan.model,
                "version": job.plan.version,
                **fields,
            }
            content = self._encoder.parquet_bytes(job.offset + rows.start, columns, described, ids)
        except Unfit as error:
            raise _unfit(error, job, rows.start) from error
        except Exception as error:
            raise failure_of(error) from error
        content_hash = hashlib.sha256(content).hexdigest()
        record = PartRecord(part, len(rows), content.nbytes, content_hash, source_hash)
        self._output.write_part(record, content)
        return record

    def close(self) -> None:
        """Release the engine and the input."""
        self._operator.close()
        if self._job.source is not None:
            self._job.source.close()


def _unfit(error: Unfit, job: Job, first: int) -> BulkError:
    """Return the error of rows that do not fit; it names rows by their numbers in the input."""
    numbers = list(dict.fromkeys(first + flaw.row for flaw in error.flaws if flaw.row is not None))
    named = f" (rows {', '.join(map(str, numbers[:8]))})" if numbers else ""
    location = job.source.location if job.source is not None else ""
    return UnfitInput(f"{location}: {error.detail}{named}; mend or remove these rows")
