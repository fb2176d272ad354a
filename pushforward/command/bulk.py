"""`pushforward bulk`: operations over files of any size, into folders of Parquet files."""

from __future__ import annotations

import gc
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

import typer

from pushforward.command.options import (
    MAX_SEED,
    Alpha,
    Id,
    Method,
    Name,
    Offset,
    SampleLabel,
    SampleOutput,
    ScoreSeed,
    StatisticName,
    Temperature,
)

if TYPE_CHECKING:
    from pushforward.bulk.run import Report, Request

commands = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="""Score, sample, encode, reconstruct or decode any number of rows into a folder of Parquet files.

    Inputs are .npy, .csv, .tsv and .parquet files, or folders of them, by path or URL.
    The output's column `row` is the input's row, from 0.
    The same command goes on where it was stopped.
    Several machines share the work by --shard I/N, each into the same folder, with the same bytes.""",
)

Input = Annotated[
    str, typer.Argument(metavar="INPUT", help="File or folder of .npy, .csv, .tsv or .parquet; path or URL.")
]
Out = Annotated[str, typer.Option(metavar="FOLDER", help="Folder to write to, new or begun; path or URL.")]
Models = Annotated[
    Path, typer.Option("--local", envvar="PUSHFORWARD_MODELS", help="Folder of published models.")
]
Version = Annotated[
    str | None, typer.Option(help="Number or alias; without it, the version that a service answers with.")
]
ShardText = Annotated[
    str | None,
    typer.Option(
        "--shard",
        metavar="I/N",
        help="Make every N-th part from part I on, I from 0 to N - 1. In a Kubernetes Indexed Job the "
        "default is JOB_COMPLETION_INDEX/JOB_COMPLETION_COUNT.",
    ),
]
Processes = Annotated[
    int, typer.Option(min=0, max=1024, help="Processes, or Ray's actors; 0 means one per granted core.")
]
DeviceName = Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="auto, cpu or cuda.")]
PartRows = Annotated[
    int | None, typer.Option(min=1, help="Rows of a part; by default what 8 MiB hold of inputs and outputs.")
]
Ray = Annotated[
    str | None,
    typer.Option(metavar="ADDRESS", help="Work on Ray: `local` starts it here, `auto` finds a cluster."),
]
ColumnName = Annotated[str, typer.Option(help="The column of lists that holds the rows, in Parquet files.")]
Label = Annotated[
    str | None,
    typer.Option(help="Class of all rows, for models with a class condition: a number from 0, or a name."),
]
Seed = Annotated[int, typer.Option(min=0, max=MAX_SEED, help="Seed of the samples.")]


@commands.command()
def score(
    model: Name,
    input: Input,
    out: Out,
    local: Models = Path("models"),
    version: Version = None,
    statistic: StatisticName = None,
    draws: Annotated[int | None, typer.Option(min=1, max=5_000, help="Latent draws per item.")] = None,
    seed: ScoreSeed = None,
    alpha: Alpha = None,
    columns: Annotated[
        bool,
        typer.Option("--columns", help="Also the p-value of each column of a table, as a list."),
    ] = False,
    label: Label = None,
    id_name: Id = None,
    column: ColumnName = "",
    shard: ShardText = None,
    processes: Processes = 0,
    device: DeviceName = "auto",
    part_rows: PartRows = None,
    ray: Ray = None,
) -> None:
    """Score every row: bounds or statistics, surprise, and calibrated p-values.

    A named noise-free statistic, as `--statistic path`, costs one pass; bounds cost one for each draw.
    """
    options: dict[str, Any] = {"statistic": statistic, "draws": draws, "seed": seed, "alpha": alpha}
    options |= {"columns": columns or None, "label": label}
    given = {name: value for name, value in options.items() if value is not None}
    _run("score", locals(), input=input, id_column=id_name or "", column=column, options=given)


@commands.command()
def sample(
    model: Name,
    out: Out,
    count: Annotated[int, typer.Option(min=1, help="Number of samples.")],
    seed: Seed = 0,
    offset: Offset = 0,
    local: Models = Path("models"),
    version: Version = None,
    temperature: Temperature = 1.0,
    output: SampleOutput = "mean",
    method: Method = "direct",
    budget: Annotated[int | None, typer.Option(min=1, max=1_024, help="Proposals per chosen sample.")] = None,
    label: SampleLabel = None,
    labels: Annotated[
        str | None,
        typer.Option(
            metavar="LABELS",
            help="Classes of the samples, with commas between them; they are repeated from the first sample "
            "on: 3,1,cat is 3, 1, cat, 3, ...",
        ),
    ] = None,
    shard: ShardText = None,
    processes: Processes = 0,
    device: DeviceName = "auto",
    part_rows: PartRows = None,
    ray: Ray = None,
) -> None:
    """Draw samples: the column `row` is the sample's index, `sample` its values.

    Of models with a class condition the column `label` names the class.
    The classes come in turn unless --label or --labels says otherwise.
    """
    options = {
        "temperature": temperature, "output": output, "method": method, "budget": budget, "label": label,
        "labels": labels,
    }  # fmt: skip
    _run("sample", locals(), count=count, seed=seed, offset=offset, options=options)


def _add_command(operation: str, help_text: str) -> None:
    """Add the command of an operation that has rows as inputs and no options but the class of all rows."""

    @commands.command(operation, help=help_text)
    def command(
        model: Name,
        input: Input,
        out: Out,
        local: Models = Path("models"),
        version: Version = None,
        label: Label = None,
        id_name: Id = None,
        column: ColumnName = "",
        shard: ShardText = None,
        processes: Processes = 0,
        device: DeviceName = "auto",
        part_rows: PartRows = None,
        ray: Ray = None,
    ) -> None:
        options = {} if label is None else {"label": label}
        _run(operation, locals(), input=input, id_column=id_name or "", column=column, options=options)


_add_command("encode", "Encode every row: the columns `mean` and `log_variance` of its posterior.")
_add_command("reconstruct", "Reconstruct every row: the column `sample` is what its encoding decodes to.")
_add_command("decode", "Decode every row of latents: the column `sample` is what it decodes to.")


def _run(operation: Any, given: dict[str, Any], **fields: Any) -> None:
    """Carry out a command, given its parameters by name and further fields of the request; then exit."""
    if find_spec("pyarrow") is None:
        _exit("Parquet files need pyarrow: pip install 'pushforward[bulk]'", 1)
    # parts have one size, so the memory that pyarrow frees is kept for the next one, here and in workers
    os.environ.setdefault("MIMALLOC_PURGE_DELAY", "-1")
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # numpy would start as many as there are cores
    gc.disable()  # collections during the imports take a tenth of the start
    from pushforward.bulk.failures import BulkError
    from pushforward.bulk.plan import shard_from
    from pushforward.bulk.run import Request, planned, run

    gc.freeze()
    gc.enable()
    request = Request(
        operation=operation,
        models=given["local"],
        name=given["model"],
        out=given["out"],
        version=given["version"],
        part_rows=given["part_rows"],
        device=given["device"],
        **fields,
    )
    began = time.perf_counter()
    try:
        shard = shard_from(given["shard"], os.environ)
        job = planned(request)
        with _progress(f"{operation} {given['model']}, parts", len(shard.parts(job.plan))) as progress:
            report = run(job, shard, given["processes"], given["ray"], progress)
    except BulkError as error:
        _exit(str(error), error.status)
    except (KeyboardInterrupt, SystemExit) as error:  # the latter by SIGTERM, see `app.run`
        status = 128 + signal.SIGINT if isinstance(error, KeyboardInterrupt) else error.code
        _exit(f"interrupted; the same command goes on where it was stopped, in {request.out}", status)
    _tell(report, request, time.perf_counter() - began)


def _progress(name: str, total: int) -> AbstractContextManager[Callable[[int], object]]:
    """Return what shows how much is done, if standard error is a terminal."""
    if not sys.stderr.isatty():
        return nullcontext(lambda _done: None)
    from training.loop.progress import passing_counter  # imports rich, which takes as long as a model's start

    return passing_counter(name, total)


def _tell(report: Report, request: Request, seconds: float) -> None:
    """Write what was done, and exit with 0, or the status of the parts that failed."""
    plan = report.plan
    if report.damaged:
        named = ", ".join(map(str, report.damaged[:8]))
        typer.echo(f"made again, since their bytes were not as recorded: parts {named}", err=True)
    made = _counted(report.made, "part") + " made"
    made += f", {report.there} there already" if report.there else ""
    if report.failures:
        shown = "".join(f"{failure}\n" for failure in report.failures)
        right = "put the input right, and " if any(failure.status == 2 for failure in report.failures) else ""
        _exit(
            f"{shown}{made}, {report.left} left; {right}the same command makes what is left",
            max(failure.status for failure in report.failures),
        )
    rate = f", {report.made_rows / seconds:.0f} rows/s" if report.made_rows else ""
    state = "complete" if report.complete else "those of other shards are missing"
    typer.echo(
        f"{request.out}: {plan.operation} by {plan.model}/{plan.version}, {_counted(plan.rows, 'row')} in "
        f"{_counted(plan.parts, 'part')}: {made}, {state} ({seconds:.1f} s{rate})"
    )


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'s' if count != 1 else ''}"


def _exit(message: str, status: Any) -> NoReturn:
    typer.echo(f"error: {message}", err=True)
    raise typer.Exit(status)
