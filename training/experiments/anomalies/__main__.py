"""The command line of the trials: `python -m training.experiments.anomalies`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from training.experiments.anomalies.table import markdown
from training.experiments.anomalies.trials import (
    EXPERIMENTS,
    Interrupted,
    missing,
    perform_missing,
    read_trials,
)
from training.experiments.results import run
from training.loop.interrupt import INTERRUPTED
from training.loop.progress import counter

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
_console = Console(stderr=True, markup=False)


@app.command()
def anomalies(
    only: Annotated[str | None, typer.Option(help=f"One of {', '.join(EXPERIMENTS)}; else all.")] = None,
    folder: Annotated[Path, typer.Option(help="Folder of the results, one JSON file each.")] = Path(
        "docs/anomalies"
    ),
    table: Annotated[Path, typer.Option(help="The tables to write.")] = Path("docs/anomalies.md"),
    redraw: Annotated[
        bool, typer.Option("--redraw", help="Train nothing; tabulate the existing results.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bar.")] = False,
) -> None:
    """Train ten VAEs of one garment each and ten of benign tumours; tabulate how well they find outliers.

    This takes half an hour on one core. Trials that have a result are not
    trained again: an interrupted command continues. PyOD, whose VAE is
    compared, comes with `pip install 'pushforward[peers]'`.
    """
    if only is not None and only not in EXPERIMENTS:
        raise typer.BadParameter(f"{only}; known are {', '.join(EXPERIMENTS)}", param_hint="--only")
    results = {}
    for name, experiment in EXPERIMENTS.items():
        path = folder / f"{name}.json"
        results[name] = read_trials(path, experiment)
        if not redraw and only in (None, name) and (left := missing(experiment, results[name])):
            with counter(name, len(left), quiet) as advance:
                perform_missing(experiment, path, results[name], advance)
    text = markdown(results)
    table.parent.mkdir(parents=True, exist_ok=True)
    table.write_text(text, encoding="utf-8")
    typer.echo(text)
    _console.print(f"wrote {table}", soft_wrap=True)


def main() -> None:
    """Run the command; Ctrl-C keeps finished trials."""
    try:
        run(app, _console)
    except Interrupted:
        _console.print("what has ended is kept; the same command goes on")
        raise SystemExit(INTERRUPTED) from None


if __name__ == "__main__":
    main()
