"""The command line of training: `pushforward-train` or `python -m training`."""

from __future__ import annotations

import difflib
import errno
import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.table import Table
from typer.core import TyperGroup

from service.errors import InvalidVersion
from service.format.manifest import is_picture
from service.format.specs import Metric
from training.anomaly.calibrate import ScoreError, require_resolvable
from training.data import DataError, Dataset, load_dataset
from training.data.draft import findings_text, write_recipe
from training.evaluation import evaluate, read_evaluation, training_figures, write_evaluation
from training.experiments.quality.compare import ComparisonError, compare_versions, write_comparison
from training.experiments.theory import SECTIONS, write_theory
from training.export.publish import export
from training.export.published import note_published, published_version
from training.export.recalibration import recalibrate
from training.export.rules import GraphError
from training.export.sessions import ParityError, verify_version
from training.export.staging import place_flaw
from training.loop.checkpoint import CheckpointError
from training.loop.diagnostics import Diagnosis, coding_finding, findings_of_run
from training.loop.distributed import ProcessGroup, ProcessGroupError, join_group
from training.loop.loop import DivergenceError, train
from training.loop.progress import counter, progress_bar
from training.loop.runs import MODEL, restore_published, stages
from training.metrics.classifier import ClassifierError
from training.models.likelihoods import SupportError
from training.models.networks import NetworkError
from training.recipe import Recipe, RecipeError, no_recipe, read_recipe, require_statistic
from training.report import ReportError, write_report
from training.report.comparison import figure_rows

_MISTAKES = (
    CheckpointError,
    ComparisonError,
    DataError,
    FileNotFoundError,
    IsADirectoryError,
    NetworkError,
    NotADirectoryError,
    PermissionError,
    RecipeError,
    ReportError,
    SupportError,
)
"""The errors that a user puts right, in the command, the recipe or the data."""
_FAILURES = (
    ClassifierError,
    DivergenceError,
    GraphError,
    InvalidVersion,
    OSError,
    ParityError,
    ProcessGroupError,
    ScoreError,
)


class _Commands(TyperGroup):
    """The commands, of which `run` is the one of a recipe alone; a recipe that is none is told of."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the command that the first argument names; end with status 2 if there is none."""
        name = args[0]
        if name.endswith(".toml"):
            return super().resolve_command(ctx, ["run", *args])
        if ctx.resilient_parsing or name.startswith("-") or difflib.get_close_matches(name, self.commands):
            return super().resolve_command(ctx, args)
        _tell_error(f"{no_recipe(name)}; {ctx.command_path} --help lists the commands")
        raise typer.Exit(2)


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="""Train VAEs and GANs and publish them as ONNX versions.

    `pushforward init FILE` writes a recipe for your own data.
    `pushforward-train RECIPE.toml`, or `run RECIPE.toml`, trains by it, measures, calibrates and publishes.
    A recipe is a TOML file; --set replaces its values: `--set loop.steps=500 --set seed=3`.
    Ctrl-C saves a checkpoint, and --resume continues from it.
    `torchrun --nproc-per-node 2 -m training run RECIPE` trains one model in several processes.""",
)

RecipePath = Annotated[
    Path, typer.Argument(metavar="RECIPE", help="A recipe, e.g. training/recipes/digits-vae.toml.")
]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Replace a value, e.g. loop.steps=500.")
]
Runs = Annotated[Path, typer.Option(help="Folder of runs: checkpoints, metrics.jsonl, sample grids.")]
Models = Annotated[Path, typer.Option(help="Folder of published versions: MODELS/NAME/VERSION.")]
Resume = Annotated[bool, typer.Option("--resume", help="Continue from the run's newest checkpoint.")]
OwnData = Annotated[
    Path,
    typer.Argument(metavar="FILE", help="A .csv, .tsv, .parquet, .npy or .npz, or a folder of pictures."),
]
Output = Annotated[Path | None, typer.Option(help="The recipe to write; NAME.toml by default.")]
Label = Annotated[str | None, typer.Option(metavar="COLUMN", help="A table's column of classes.")]
Keep = Annotated[
    list[str] | None, typer.Option(metavar="CLASS", help="A class to learn; the others test the scores.")
]
Quiet = Annotated[bool, typer.Option("--quiet", help="Show no progress bars.")]

_console = Console(stderr=True, markup=False)  # paths may have [brackets]


@app.command("init")
def init_command(file: OwnData, output: Output = None, label: Label = None, keep: Keep = None) -> None:
    """Look at your own data, and write a recipe for it that works.

    It prints all that it saw and settled; every line of the recipe can be changed.
    """
    written, findings = write_recipe(file, output, label, keep or ())
    typer.echo(findings_text(findings))
    _console.print(f"wrote {written}", soft_wrap=True)


@app.command("run")
def run_command(
    context: typer.Context,
    recipe: RecipePath,
    overrides: Overrides = None,
    runs: Runs = Path("runs"),
    models: Models = Path("models"),
    resume: Resume = False,
    quiet: Quiet = False,
) -> None:
    """Train, evaluate, export, calibrate and publish in one go."""
    parsed, dataset = _load(recipe, overrides)
    folder, again = runs / parsed.name, _again(context, recipe, overrides, runs, models)
    _require_place(models / parsed.name)
    _train(parsed, dataset, folder, resume, quiet, again)
    if resume and (published := _published(parsed, dataset, folder, models)):
        _console.print(f"the run is finished, and published as {published}", soft_wrap=True)
        return
    try:
        _evaluate(parsed, dataset, folder, quiet)
        published = _export(parsed, dataset, folder, models, quiet)
    except (KeyboardInterrupt, *_FAILURES):
        _say(f"{parsed.name} is trained, and not published; go on with\n  {again}")
        raise
    _say(_next_steps(parsed, dataset, published, folder, models))


@app.command("train")
def train_command(
    context: typer.Context,
    recipe: RecipePath,
    overrides: Overrides = None,
    runs: Runs = Path("runs"),
    resume: Resume = False,
    quiet: Quiet = False,
) -> None:
    """Train only, into RUNS/NAME."""
    parsed, dataset = _load(recipe, overrides)
    again = _again(context, recipe, overrides, runs, None)
    _train(parsed, dataset, runs / parsed.name, resume, quiet, again)


@app.command("evaluate")
def evaluate_command(
    recipe: RecipePath, overrides: Overrides = None, runs: Runs = Path("runs"), quiet: Quiet = False
) -> None:
    """Measure a run's newest checkpoint on the test split, into RUNS/NAME/evaluation.json."""
    parsed, dataset = _load(recipe, overrides)
    _evaluate(parsed, dataset, runs / parsed.name, quiet)


@app.command("export")
def export_command(
    recipe: RecipePath,
    overrides: Overrides = None,
    runs: Runs = Path("runs"),
    models: Models = Path("models"),
    quiet: Quiet = False,
) -> None:
    """Export, check, calibrate and publish a run's newest checkpoint as the next version."""
    parsed, dataset = _load(recipe, overrides)
    _require_place(models / parsed.name)
    _export(parsed, dataset, runs / parsed.name, models, quiet)


@app.command("report")
def report_command(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder, e.g. runs/digits-vae.")],
) -> None:
    """Write RUN/report.html: scores, samples, reconstructions, latents and curves, in one file."""
    _console.print(f"wrote {write_report(run)}", soft_wrap=True)


@app.command("theory")
def theory_command(
    output: Annotated[Path, typer.Option(help="The HTML file to write.")] = Path("runs/theory.html"),
    quiet: Quiet = False,
) -> None:
    """Measure what is proved about GANs, and write it as one page (a minute).

    The best discriminator, the Jensen-Shannon divergence, and a network that finds it.
    A bound on the divergence while a GAN trains.
    The vanishing gradient; games that circle, and settle with R1.
    It needs neither data nor recipe; open the file in a browser.
    """
    with counter("theory", len(SECTIONS), quiet) as advance:
        path = write_theory(output, advance)
    _console.print(f"wrote {path}", soft_wrap=True)


@app.command("verify")
def verify_command(
    versions: Annotated[
        list[Path], typer.Argument(metavar="VERSION", help="Folders, e.g. models/digits-vae/3.")
    ],
) -> None:
    """Check published versions: manifest, hashes, rules for graphs, and the stored self-test."""
    for folder in versions:
        manifest = verify_version(folder)
        _console.print(f"{folder}: sound; {manifest.name} offers {', '.join(manifest.operations)}")
        for line in filter(None, (manifest.agreement, manifest.doubts)):
            _console.print(f"  {line}", soft_wrap=True)


@app.command("calibrate")
def calibrate_command(
    version: Annotated[Path, typer.Argument(metavar="VERSION", help="A folder, e.g. models/fashion-vae/5.")],
    data: Annotated[
        Path, typer.Option(help="An .npy file of normal items, as a score request's `inputs` have them.")
    ],
    statistic: Annotated[
        str | None, typer.Option(help="Anomaly statistic; by default the version's own.")
    ] = None,
    alpha: Annotated[float | None, typer.Option(help="Share of normal items that may be flagged.")] = None,
    draws: Annotated[int | None, typer.Option(help="Monte Carlo draws per item of a VAE's bounds.")] = None,
    labels: Annotated[
        Path | None,
        typer.Option(help="An .npy file of the class of each item, a number or a name, if it takes labels."),
    ] = None,
) -> None:
    """Publish a version again, calibrated on your own normal items.

    Nothing is trained. p-values then rank an item among *your* normal items.
    Give at least 1 / alpha of them that the model was not trained on.
    """
    given = {"statistic": statistic, "alpha": alpha, "draws": draws}
    chosen = {key: value for key, value in given.items() if value is not None}
    published = recalibrate(version, data, chosen, labels)
    _console.print(f"published {published}", soft_wrap=True)


@app.command("quality")
def quality_command(
    versions: Annotated[
        list[Path], typer.Argument(metavar="VERSION", help="Folders, e.g. models/fashion-gan/1.")
    ],
    seed: Annotated[int, typer.Option(help="Seed of the samples and of all resampling.")] = 0,
    output: Annotated[Path, typer.Option(help="Writes OUTPUT.json and OUTPUT.html.")] = Path("runs/quality"),
) -> None:
    """Measure the samples of published versions of one dataset, beside the training set itself."""
    dataset, measured = compare_versions(versions, seed)
    metrics = {name: each.metrics for name, each in measured.items()}
    table = Table("figure", *metrics, "unit")
    for row in figure_rows(metrics):
        table.add_row(*row)
    _console.print(table)
    document, page = write_comparison(output, dataset, measured, seed)
    _console.print(f"wrote {document} and {page}", soft_wrap=True)


def main(
    program: str = "pushforward-train", arguments: Sequence[str] | None = None, *, mistake_status: int = 1
) -> None:
    """Run a command of training: an expected error becomes one line and exit status 1.

    `program` is the name that help and messages use; `arguments` are those of the process unless given;
    `mistake_status` is the exit status for a mistake of the user.
    """
    command = typer.main.get_command(app)
    command.help = (command.help or "").replace("pushforward-train", program)
    try:
        command(arguments, program)
    except (*_MISTAKES, *_FAILURES) as error:
        _tell_error(_text_of(error))
        raise SystemExit(mistake_status if isinstance(error, _MISTAKES) else 1) from None
    except (MemoryError, RuntimeError) as error:
        if not _lacks_memory(error):
            raise
        _tell_error(f"{error}\nThe memory is too small: lower loop.batch_rows, draws or [network]")
        raise SystemExit(1) from None


def _text_of(error: BaseException) -> str:
    """Return an error's message; to that of a full disk, which has no path, what to do is added."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{error.strerror}: make room for the folders of runs and models, and go on with --resume"
    return str(error)


def _lacks_memory(error: BaseException) -> bool:
    """Return whether that is what an error tells; on the CPU torch raises a plain RuntimeError for it."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def _require_place(folder: Path) -> None:
    """Refuse a folder of versions that cannot be written: before an hour of training, not after it."""
    if flaw := place_flaw(folder):
        raise PermissionError(flaw)


def _next_steps(recipe: Recipe, dataset: Dataset, published: Path, run: Path, models: Path) -> str:
    """Return what to type after a version has been published."""
    picture = is_picture(dataset.item_shape)
    samples = ["--count", "64", "--out", f"{recipe.name}.png"] if picture else ["--count", "10"]
    commands = (
        ["sample", recipe.name, "--local", str(models), *samples],
        ["serve", "--models", str(models)],
        ["train", "report", str(run)],
    )
    lines = "".join(f"\n  {shlex.join(['pushforward', *command])}" for command in commands)
    return f"its figures are in {published / 'README.md'}; next:{lines}"


def _say(text: str) -> None:
    _console.print(text, soft_wrap=True, highlight=False)


def _tell_error(text: str) -> None:
    _console.print("error:", style="bold red", end=" ")
    _console.print(text, highlight=False, soft_wrap=True)


def _load(path: Path, overrides: list[str] | None) -> tuple[Recipe, Dataset]:
    recipe = read_recipe(path, overrides or ())
    torch.set_num_threads(recipe.loop.threads)
    dataset = load_dataset(recipe.data)
    if recipe.vae is not None or recipe.encoder is not None:  # fail before an hour of training, not after it
        require_statistic(recipe)
        of_own = "data.calibration_share, or more rows"
        way_out = "keep more classes, or take other data" if recipe.data.path is None else of_own
        require_resolvable(recipe.calibration, len(dataset.items["calibration"]), way_out)
    return recipe, dataset


def _train(recipe: Recipe, dataset: Dataset, folder: Path, resume: bool, quiet: bool, again: str) -> None:
    with join_group(recipe.loop.device) as group:
        for note in dataset.notes if group.leads else ():
            _say(f"note: {note}")
        if group.leads:
            _say(_beginning(recipe, dataset, folder, group))
        for name, options in stages(recipe).items():
            title = recipe.name if name == MODEL else f"{recipe.name} {name}"
            with progress_bar(title, options.last_step, quiet or not group.leads) as on_progress:
                outcome = train(
                    recipe, dataset, folder, stage=name, resume=resume, on_progress=on_progress, group=group
                )
            if group.leads:
                _tell(outcome.findings)
            if outcome.interrupted:
                break
    if not group.leads:
        raise typer.Exit(outcome.exit_status)
    if outcome.interrupted:
        _say(f"saved {name} after {outcome.steps} of {options.last_step} steps; go on with\n  {again}")
        raise typer.Exit(outcome.exit_status)


def _beginning(recipe: Recipe, dataset: Dataset, folder: Path, group: ProcessGroup) -> str:
    """Return what is trained, on what, and where it goes."""
    where = group.device.type + (f", {group.size} processes" if group.size > 1 else "")
    rows = len(dataset.items["train"])
    return (
        f"training {recipe.name} on {where}: {recipe.loop.last_step:,} steps of "
        f"{min(rows, recipe.loop.batch_rows):,} of {rows:,} items; log and checkpoints in {folder}"
    )


def _evaluate(recipe: Recipe, dataset: Dataset, folder: Path, quiet: bool) -> dict[str, Metric]:
    task, checkpoint = restore_published(recipe, dataset, folder)
    _console.print(f"evaluating {recipe.name} after {checkpoint.published_step} of {checkpoint.step} steps")
    options = recipe.evaluation
    rows = min(options.rows, options.likelihood_rows, len(dataset.items["test"]))
    with counter("sampling", rows, quiet or not options.likelihood_draws) as advance:
        metrics = evaluate(task, recipe, dataset, advance)
    write_evaluation(folder, checkpoint, options, metrics)
    for name, metric in metrics.items():
        error = "" if metric.standard_error is None else f" ± {metric.standard_error:.2g}"
        _console.print(f"  {name} {metric.value:.6g}{error} {metric.unit}", highlight=False)
    coding = coding_finding(metrics, task.support)
    _tell([coding] if coding else [])
    return metrics


def _tell(findings: Sequence[Diagnosis]) -> None:
    for finding in findings:
        _console.print(f"{finding.trouble}:", style="bold yellow", end=" ")
        _console.print(finding.text, highlight=False, soft_wrap=True)


def _export(recipe: Recipe, dataset: Dataset, folder: Path, models: Path, quiet: bool) -> Path:
    task, checkpoint = restore_published(recipe, dataset, folder)
    metrics = read_evaluation(folder, checkpoint, recipe.evaluation)
    if metrics is None:
        metrics = _evaluate(recipe, dataset, folder, quiet)
    metrics |= training_figures(recipe, checkpoint)
    findings = findings_of_run(task, folder, metrics)
    published = export(task, recipe, dataset, metrics, models, _say, findings)
    verify_version(published)
    note_published(folder, recipe, checkpoint, published)
    _console.print(f"published {published}", soft_wrap=True)
    return published


def _published(recipe: Recipe, dataset: Dataset, folder: Path, models: Path) -> Path | None:
    """Return the version as which the run's newest checkpoint was published by this very recipe, if any."""
    _, checkpoint = restore_published(recipe, dataset, folder)
    return published_version(folder, recipe, checkpoint, models)


def _again(
    context: typer.Context, recipe: Path, overrides: list[str] | None, runs: Path, models: Path | None
) -> str:
    """Return the command line that continues this one: by the program that was called, or by torchrun."""
    processes = os.environ.get("LOCAL_WORLD_SIZE")
    program = [str(context.find_root().info_name)]
    if processes is not None:
        program = ["torchrun", "--nproc-per-node", processes, "-m", "training"]
    settings = [part for override in overrides or () for part in ("--set", override)]
    folders = ["--runs", str(runs), *(["--models", str(models)] if models else [])]
    rest = shlex.join([str(context.info_name), str(recipe), *settings, *folders, "--resume"])
    return f"{' '.join(program)} {rest}"


if __name__ == "__main__":
    main()
