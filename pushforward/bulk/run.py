"""One run of bulk work: the plan, the parts of one shard, and the manifest once nothing is missing."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from pushforward.bulk.failures import BulkError, BulkMistake, OutputFailed, failure_of
from pushforward.bulk.maker import Job
from pushforward.bulk.opening import open_source
from pushforward.bulk.operations import Operation, completed_options, form_of, row_cost, typed_options
from pushforward.bulk.output import OutputFolder, missing_parts
from pushforward.bulk.plan import Plan, Shard, libraries, rows_per_part
from pushforward.bulk.pool import Outcome, made_by_processes, made_here
from pushforward.folder import model_folder, version_folder
from service.api.operations.sample import END, beyond_last
from service.errors import ServiceError, UnknownModel
from service.format.manifest import Manifest
from service.format.versions import read_manifest
from service.runtime.session import Provider, choose_provider
from service.settings import Device, granted_cores, has_gpu

_MOST_FAILED: Final = 8
"""Most parts that may fail before the others are not tried any more."""


@dataclass(frozen=True)
class Request:
    """The work that is asked for."""

    operation: Operation
    models: Path
    """The folder of models."""
    name: str
    out: str
    """Path or URL of the output folder."""
    version: str | None = None
    """Number or alias; None for the version that answers requests which name none."""
    input: str | None = None
    """Path or URL of the input; None for `sample`."""
    column: str = ""
    """The column of lists in Parquet files that holds the rows."""
    id_column: str = ""
    """The column of a table that tells rows apart, to be written beside the results."""
    count: int = 0
    """The number of samples."""
    seed: int = 0
    """The seed of samples; that of scores is one of the options."""
    offset: int = 0
    """The index of the first sample."""
    options: Mapping[str, Any] = field(default_factory=dict)
    part_rows: int | None = None
    device: Device = "auto"


@dataclass
class Report:
    """The result of a run."""

    plan: Plan
    made: int = 0
    there: int = 0
    """Parts of this shard that were there already."""
    made_rows: int = 0
    damaged: list[int] = field(default_factory=list)
    """Parts that were there with other bytes than recorded, and were made again."""
    failures: list[BulkError] = field(default_factory=list)
    left: int = 0
    """Parts of this shard that were not made."""
    complete: bool = False
    """True if the parts of all shards are there and the manifest is written."""


def planned(request: Request) -> Job:
    """Return the job for a request, after checking all that can be checked without loading the version.

    Raises:
        BulkError: the request does not fit; says why.
    """
    try:
        folder = version_folder(model_folder(request.models, request.name), request.version)
        manifest = read_manifest(folder)
        manifest.require(request.operation)
        typed = typed_options(request.operation, request.options)
        options = completed_options(request.operation, typed, manifest)
        device: Device = "cpu" if request.device == "auto" and not has_gpu() else request.device
        provider: Provider = choose_provider(device, folder)
    except UnknownModel as error:
        raise BulkMistake(
            f"{request.models / request.name}: {error}; --local names another folder"
        ) from error
    except ServiceError as error:
        raise failure_of(error) from error
    form, source = form_of(request.operation, typed, manifest), None
    row_bytes = 4 * _values_out(request.operation, manifest)
    if form is None:
        if request.offset + request.count > END:
            raise failure_of(beyond_last(request.offset, request.count))
        options |= {"seed": request.seed, "offset": request.offset}
        rows = request.count
    else:
        assert request.input is not None, "only samples have no input"
        source = open_source(request.input, replace(form, id_column=request.id_column), request.column)
        rows, row_bytes = source.rows, row_bytes + form.row_bytes
    named = {"column": request.column, "id": request.id_column}
    plan = Plan(
        operation=request.operation,
        model=manifest.name,
        version=manifest.version,
        version_sha256=manifest.sha256,
        provider=provider,
        options=options | {name: value for name, value in named.items() if value},
        input=None if source is None else source.description(),
        rows=rows,
        part_rows=rows_per_part(row_bytes, row_cost(options), request.part_rows),
        libraries=libraries(),
    )
    return Job(
        plan,
        request.operation,
        request.options,
        folder,
        provider,
        source,
        request.seed if form is None else None,
        request.offset,
        request.out,
    )


def run(
    job: Job,
    shard: Shard,
    processes: int,
    ray: str | None = None,
    progress: Callable[[int], object] = lambda _parts: None,
) -> Report:
    """Make the parts of a shard that are missing, and the manifest once no part of any shard is.

    Args:
        job: The work.
        shard: The parts to make of it.
        processes: The count of processes, or of Ray's actors; 0 means one per granted core, or a single one
            on a GPU.
        ray: Address of a Ray cluster, `local` to start Ray here, or None to do without.
        progress: Called with the number of parts that are newly done.

    Raises:
        BulkError: nothing can be made. Parts that fail by themselves are in the report.
    """
    plan, output = job.plan, OutputFolder(job.out)
    there = output.check(plan)
    parts = shard.parts(plan)
    missing, damaged = missing_parts(output, parts)
    flushes: list[Future[None]] = []
    report = Report(plan, there=len(parts) - len(missing), damaged=damaged, left=len(missing))
    try:
        if there is not None and (there.input or {}).get("changed") != (plan.input or {}).get("changed"):
            _check_input(job, output)
        progress(report.there)
        with (
            ThreadPoolExecutor(1, "pushforward-flush") as flusher,  # the disk writes while parts are made
            contextlib.closing(_outcomes(job, missing, processes, ray)) as outcomes,
        ):
            for outcome in outcomes:
                if not isinstance(outcome, BulkError):
                    report.made, report.left = report.made + 1, report.left - 1
                    report.made_rows += outcome.rows
                    flushes.append(flusher.submit(output.flush, outcome.part))
                    progress(1)
                    continue
                report.failures.append(outcome)
                if outcome.stops or len(report.failures) == _MOST_FAILED:
                    break
    finally:
        if job.source is not None:
            job.source.close()
    for flush in flushes:
        flush.result()
    if report.failures:
        return report
    if not output.recorded() >= set(parts):
        raise OutputFailed(
            f"{job.out} no longer holds all parts that were made: it was removed or changed meanwhile; "
            "remove what is left there, and give the same command again"
        )
    report.complete = output.finish(plan)
    return report


def _outcomes(
    job: Job, parts: Sequence[int], processes: int, ray: str | None
) -> Generator[Outcome, None, None]:
    if not parts:
        return made_here(job, parts)
    if ray is not None:
        from pushforward.bulk.on_ray import made_by_ray  # an extra that few install

        return made_by_ray(job, parts, ray, processes)
    count = min(processes or (1 if job.provider == "cuda" else granted_cores()), len(parts))
    return made_here(job, parts) if count == 1 else made_by_processes(job, parts, count)


def _check_input(job: Job, output: OutputFolder) -> None:
    """Raise BulkMistake unless the input has the rows that the recorded parts were made from.

    The files were written again since; a damaged one may have been replaced.
    """
    assert job.source is not None
    for part in sorted(output.recorded()):
        rows = job.plan.rows_of(part)
        if job.source.read(rows.start, rows.stop).sha256() != output.record(part).input_sha256:
            raise BulkMistake(
                f"{job.source.location} has changed: rows {rows.start} to {rows.stop - 1} are not those that "
                f"part {part} was made from; name another --out folder"
            )


def _values_out(operation: Operation, manifest: Manifest) -> int:
    """Return the size of an output row in float32 numbers; an int64 or a float64 counts as two."""
    if operation == "score":
        return 2 + 2 * (9 + len(manifest.statistics))
    if operation == "encode":
        return 2 + 2 * manifest.latent_size
    return 2 + math.prod(manifest.item_shape)
