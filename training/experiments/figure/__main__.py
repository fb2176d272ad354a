"""The command line of the figure: `python -m training.experiments.figure`."""

from __future__ import annotations

import itertools
import os
import signal
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from training.data.points import MODES
from training.experiments.figure.drawing import draw
from training.experiments.figure.methods import METHODS
from training.experiments.figure.results import TARGET, MethodRun, missing, read_folder
from training.experiments.figure.table import markdown
from training.experiments.figure.training import perform_all
from training.experiments.results import ResultError, run
from training.loop.interrupt import INTERRUPTED
from training.loop.progress import counter

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
_console = Console(stderr=True, markup=False)


@app.command()
def figure(
    methods: Annotated[
        list[str] | None,
        typer.Option(help=f"Train only these: {TARGET}, {', '.join(METHODS)}. May be repeated."),
    ] = None,
    data: Annotated[
        list[str] | None, typer.Option(help=f"Train only on these: {', '.join(MODES)}. May be repeated.")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Number of seeds, from 0 on.")] = 3,
    seconds: Annotated[float, typer.Option(min=0.1, help="CPU seconds of each training.")] = 90.0,
    jobs: Annotated[
        int, typer.Option(min=1, help="Trainings at the same time, each on one core.")
    ] = os.cpu_count() or 1,
    folder: Annotated[Path, typer.Option(help="Folder of the results, one JSON file a run.")] = Path(
        "docs/figure"
    ),
    picture: Annotated[Path, typer.Option(help="The picture to write.")] = Path("docs/gan-methods.png"),
    table: Annotated[Path, typer.Option(help="The table to write.")] = Path("docs/gan-methods.md"),
    redraw: Annotated[
        bool, typer.Option("--redraw", help="Train nothing; draw the existing results.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bar.")] = False,
) -> None:
    """Train GAN methods on a ring and a grid of Gaussians; draw and tabulate their samples.

    Runs that have a result are not trained again: an interrupted command continues, and a finished figure
    is drawn again in seconds. Each method takes --seconds of CPU time for each mixture and seed.
    """
    if not redraw:
        chosen = itertools.product(
            range(seeds),
            _known(data, [*MODES], "--data"),
            _known(methods, [TARGET, *METHODS], "--methods"),
        )
        runs = [MethodRun(mixture, method, seed) for seed, mixture, method in chosen]
        _train(missing(runs, folder, seconds), folder, seconds, jobs, quiet)
    results = read_folder(folder)
    if not results:
        raise ResultError(f"{folder} holds no results; run without --redraw to train")
    draw(results, picture)
    table.parent.mkdir(parents=True, exist_ok=True)
    table.write_text(markdown(results), encoding="utf-8")
    typer.echo(markdown(results))
    _console.print(f"wrote {picture} and {table}", soft_wrap=True)


def main() -> None:
    """Run the command; SIGTERM acts as Ctrl-C."""
    for number in (signal.SIGINT, signal.SIGTERM):  # the former too: a shell's background jobs ignore it
        signal.signal(number, signal.default_int_handler)
    run(app, _console)


def _train(runs: list[MethodRun], folder: Path, seconds: float, jobs: int, quiet: bool) -> None:
    if not runs:
        return
    try:
        with counter("training", len(runs), quiet) as advance:
            perform_all(runs, folder, seconds, jobs, advance)
    except KeyboardInterrupt:
        left = len(missing(runs, folder, seconds))
        _console.print(f"{len(runs) - left} of {len(runs)} runs ended and are kept; the same command goes on")
        raise typer.Exit(INTERRUPTED) from None


def _known(chosen: list[str] | None, known: list[str], option: str) -> list[str]:
    if unknown := sorted({*(chosen or ())} - {*known}):
        raise typer.BadParameter(f"{', '.join(unknown)}; known are {', '.join(known)}", param_hint=option)
    return [name for name in known if chosen is None or name in chosen]


if __name__ == "__main__":
    main()
