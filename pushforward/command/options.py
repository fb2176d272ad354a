"""The options and arguments that several commands have, each with its help.

Everything but typer is imported when a command runs.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

import typer

from pushforward.command.completion import complete_model
from service.format.statistics import Statistic

USE: Final = "Use a model"
"""The panel of the commands that use a model."""
URL: Final = "http://localhost:8000"
MAX_SEED: Final = 2**53 - 1  # as in service.numerics.noise, which imports numpy
InputFormat = Literal["csv", "tsv", "npy", "npz", "json", "parquet", "png", "jpeg", "webp", "tiff", "bmp"]
OutputFormat = Literal["png", "npy", "npz", "csv", "parquet", "json"]
Name = Annotated[
    str,
    typer.Argument(
        metavar="MODEL", help="Name of the model.", show_default=False, autocompletion=complete_model
    ),
]
Files = Annotated[
    list[str],
    typer.Argument(
        metavar="FILE",
        help="CSV, TSV, Parquet, JSON, npy (all also compressed), npz, PNG, JPEG, WebP, TIFF or BMP; a "
        "folder of pictures; or - for standard input.",
        show_default=False,
    ),
]
Url = Annotated[
    str,
    typer.Option("--url", envvar="PUSHFORWARD_URL", help="Address of the service.", rich_help_panel="Where"),
]
Local = Annotated[
    str | None,
    typer.Option(
        "--local",
        metavar="MODELS",
        help="Folder of published versions, which run in this process, without a service.",
        rich_help_panel="Where",
    ),
]
Key = Annotated[
    str | None,
    typer.Option(
        "--key", envvar="PUSHFORWARD_KEY", help="Key, if the service asks for one.", rich_help_panel="Where"
    ),
]
Version = Annotated[
    str | None,
    typer.Option(
        "--version",
        "--model-version",
        metavar="VERSION",
        help="Number or alias of the version; without it, the one that answers for the model.",
        rich_help_panel="Where",
    ),
]
Out = Annotated[
    str | None,
    typer.Option(
        "--out",
        "-o",
        metavar="FILE",
        help="File to write, by its ending: .png, .npy, .npz, .csv, .parquet or .json; - is standard output.",
        rich_help_panel="Output",
    ),
]
As = Annotated[
    OutputFormat | None,
    typer.Option("--as", help="Format of the output, whatever the ending.", rich_help_panel="Output"),
]
Format = Annotated[
    InputFormat | None,
    typer.Option("--format", help="Format of standard input; found by its first bytes without it."),
]
Scale = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=64,
        help="Pixels per pixel of an item in a PNG; without it, pictures are enlarged to 56 pixels of width.",
        rich_help_panel="Output",
    ),
]
Label = Annotated[
    str | None, typer.Option(help="Class, for models with a class condition: a number from 0, or a name.")
]
SampleLabel = Annotated[
    str | None,
    typer.Option(
        help="Class of all samples, for models with a class condition: a number from 0, or a name. Without "
        "it, the classes come in turn."
    ),
]
Id = Annotated[
    str | None,
    typer.Option(
        "--id",
        metavar="COLUMN",
        help="Column of a table that tells its rows apart; it is written beside the results.",
    ),
]
Top = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        help="The N most anomalous, or least real, rows alone, in that order.",
        rich_help_panel="Output",
    ),
]
StatisticName = Annotated[
    Statistic | None,
    typer.Option(
        help="Statistic behind the surprise; without it, the default of the version. The first five "
        "are for VAEs, the last three for GANs. corrected, path and kernel_density are deterministic, "
        "and fast if named here."
    ),
]
ScoreSeed = Annotated[
    int | None, typer.Option(min=0, max=MAX_SEED, help="Seed of the draws, the same for every row.")
]
Alpha = Annotated[
    float | None,
    typer.Option(min=0, max=1, help="Share of ordinary items that may be flagged as anomalies."),
]
Offset = Annotated[int, typer.Option(min=0, help="Number of the first sample.")]
Temperature = Annotated[
    float, typer.Option(min=0, max=10, help="Below 1 for typical samples, above 1 for unusual ones.")
]
SampleOutput = Annotated[
    Literal["mean", "draw"],
    typer.Option(
        help="mean: the likelihood's mean. draw: a random draw from it (VAE), or the same sample (GAN); in "
        "tables with the decimals and within the range of the rows that were learned."
    ),
]
Method = Annotated[
    Literal["direct", "rejection", "resample", "metropolis"],
    typer.Option(
        help="direct keeps every sample; rejection, resample and metropolis choose among proposals "
        "by the discriminator (GAN)."
    ),
]
