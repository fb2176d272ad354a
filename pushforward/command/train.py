"""`pushforward train`: every command of training, imported only when it is called."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

from service.errors import Unfit

MAKE: Final = "Make a model"
EXTRA: Final = "pip install 'pushforward[train]'"
PASSED_ON: Final = {
    "allow_extra_args": True,
    "ignore_unknown_options": True,
    "allow_interspersed_args": False,
}
"""Settings of a command that passes all its arguments on as they are, also `--help`."""
_PROGRAM: Final = "pushforward train"

commands = typer.Typer()


@commands.command(rich_help_panel=MAKE, add_help_option=False, context_settings=PASSED_ON)
def train(context: typer.Context) -> None:
    """Train a recipe and publish the model; measure, compare, calibrate, report."""
    from training import main

    main(_PROGRAM, context.args, mistake_status=2)


@commands.command(rich_help_panel=MAKE)
def init(
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="A .csv, .tsv, .parquet, .npy or .npz, or a folder of pictures."),
    ],
    output: Annotated[Path | None, typer.Option(help="The recipe to write; NAME.toml by default.")] = None,
    label: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN",
            help="A table's column of classes, which is not learned; one called label, class, target or "
            "the like is found by itself.",
        ),
    ] = None,
    keep: Annotated[
        list[str] | None,
        typer.Option(metavar="CLASS", help="A class to learn (several: repeat it); others test the scores."),
    ] = None,
) -> None:
    """Look at your own data, and write a recipe for it that `pushforward train` can run.

    It prints what it saw and settled: the columns, which it leaves out and why, and how it will train.
    Every line of the recipe can be changed.
    """
    from training.data.dataset import DataError
    from training.data.draft import findings_text, write_recipe

    try:
        written, findings = write_recipe(file, output, label, keep or ())
    except DataError as error:
        raise Unfit(str(error)) from error
    typer.echo(findings_text(findings))
    typer.echo(f"wrote {written}; train it with: pushforward train {written}")
