"""The commands that use a model: those of a service, or with `--local` those of a folder.

Everything but typer is imported when a command runs, so that `pushforward --help` and `pushforward serve`
need none of it.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

import typer

from pushforward.command.completion import complete_model

commands = typer.Typer()
USE: Final = "Use a model"
_URL: Final = "http://localhost:8000"
_MAX_SEED: Final = 2**53 - 1


InputFormat = Literal["csv", "tsv", "npy", "npz", "json", "parquet", "png", "jpeg", "webp", "tiff", "bmp"]
OutputFormat = Literal["png", "npy", "npz", "csv", "parquet", "json"]
Statistic = Literal[
    "elbo",
    "importance_bound",
    "corrected",
    "path",
    "kernel_density",
    "residual",
    "feature_distance",
    "f_anogan",
]
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
        help="CSV (also .gz), TSV, Parquet, npy, npz, JSON, PNG, JPEG, WebP, TIFF or BMP; a folder of "
        "pictures; or - for standard input.",
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
Number = Annotated[
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


@commands.command(rich_help_panel=USE)
def models(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="MODEL", help="The model to show.", show_default=False, autocompletion=complete_model
        ),
    ] = None,
    url: Url = _URL,
    local: Local = None,
    key: Key = None,
    version: Number = None,
    out: Out = None,
    form: As = None,
) -> None:
    """List the models, or show one.

    [cyan]pushforward models --local models[/]
    [cyan]pushforward models breast-cancer-vae --as json[/]
    """
    from pushforward.command import pipeline

    if name is None:
        pipeline.list_models(url, local, key, out, form)
    else:
        with pipeline.use(name, version, url, local, key) as command:
            command.put_manifest(out, form)


@commands.command(rich_help_panel=USE)
def sample(
    name: Name,
    count: Annotated[
        int | None, typer.Option(min=1, help="Number of samples; 1, or 4096 for the picture of a density.")
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            min=0, max=_MAX_SEED, help="Seed of the noise; without it, a fresh one, which is shown."
        ),
    ] = None,
    offset: Annotated[int, typer.Option(min=0, help="Number of the first sample.")] = 0,
    temperature: Annotated[
        float, typer.Option(min=0, max=10, help="Below 1 for typical samples, above 1 for unusual ones.")
    ] = 1.0,
    output: Annotated[
        Literal["mean", "draw"],
        typer.Option(help="mean: the likelihood's mean. draw: a random draw from it (VAE)."),
    ] = "mean",
    method: Annotated[
        Literal["direct", "rejection", "resample", "metropolis"],
        typer.Option(
            help="direct keeps every sample; rejection, resample and metropolis choose among proposals "
            "by the discriminator (GAN)."
        ),
    ] = "direct",
    budget: Annotated[
        int | None,
        typer.Option(min=1, help="Proposals per sample, for all methods but direct; 16 without it."),
    ] = None,
    label: Label = None,
    url: Url = _URL,
    local: Local = None,
    key: Key = None,
    version: Number = None,
    out: Out = None,
    form: As = None,
    scale: Scale = None,
) -> None:
    """Draw samples. Sample i of a seed is always the same.

    [cyan]pushforward sample fashion-vae --count 64 --seed 7 --out grid.png[/]
    [cyan]pushforward sample breast-cancer-vae --count 1000 --output draw --out rows.csv[/]
    """
    from pushforward.command import pipeline

    options = {
        "temperature": temperature, "output": output, "method": method, "budget": budget, "label": label,
    }  # fmt: skip
    with pipeline.use(name, version, url, local, key) as command:
        command.sample(count, seed, offset, options, pipeline.OutputOptions(out, form, scale))


@commands.command(rich_help_panel=USE)
def interpolate(
    name: Name,
    start: Annotated[
        str,
        typer.Option(
            "--from",
            metavar="POINT",
            help="First point: SEED or SEED:INDEX for a sample; or a file of one item or latent.",
        ),
    ],
    end: Annotated[str, typer.Option("--to", metavar="POINT", help="Last point, given alike.")],
    steps: Annotated[int, typer.Option(min=2, help="Points on the path, both ends included.")] = 10,
    path: Annotated[
        Literal["spherical", "linear"],
        typer.Option(help="spherical: along the great circle. linear: a straight line."),
    ] = "spherical",
    label: Label = None,
    url: Url = _URL,
    local: Local = None,
    key: Key = None,
    version: Number = None,
    out: Out = None,
    form: As = None,
    scale: Scale = None,
) -> None:
    """Decode the points on a path between two points of the latent space.

    [cyan]pushforward interpolate fashion-vae --from 1 --to 2 --steps 12 --out path.png[/]
    [cyan]pushforward interpolate fashion-vae --from boot.png --to 7:3 --out path.png[/]
    """
    from pushforward.command import pipeline

    with pipeline.use(name, version, url, local, key) as command:
        command.interpolate(start, end, steps, path, label, pipeline.OutputOptions(out, form, scale))


@commands.command(rich_help_panel=USE)
def read(
    name: Name,
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE",
            help="CSV, TSV, Parquet, npy or a picture, which are sent as they are; or what `score` takes.",
            show_default=False,
        ),
    ],
    id_name: Annotated[
        str | None,
        typer.Option("--id", metavar="COLUMN", help="Column of a table to leave out, as `score` does."),
    ] = None,
    url: Url = _URL,
    local: Local = None,
    key: Key = None,
    version: Number = None,
    out: Out = None,
    form: As = None,
    scale: Scale = None,
) -> None:
    """Show files as the model takes them, before it scores them: rows of a table, or pictures.

    [cyan]pushforward read fashion-vae boot.jpg --out seen.png[/]
    [cyan]pushforward read breast-cancer-vae data.csv --out seen.csv[/]
    """
    from pushforward.command import pipeline

    with pipeline.use(name, version, url, local, key) as command:
        command.show(files, id_name, pipeline.OutputOptions(out, form, scale))


@commands.command(rich_help_panel=USE)
def reconstruct(
    name: Name,
    files: Files,
    beside: Annotated[
        bool, typer.Option("--beside", help="Show each item of a PNG beside its reconstruction.")
    ] = False,
    id_name: Id = None,
    label: Label = None,
    input_form: Format = None,
    url: Url = _URL,
    local: Local = None,
    key: Key = None,
    version: Number = None,
    out: Out = None,
    form: As = None,
    scale: Scale = None,
) -> None:
    """Encode and decode items.

    [cyan]pushforward reconstruct fashion-vae garments/ --beside --out pairs.png[/]
    [cyan]pushforward reconstruct breast-cancer-vae data.csv --out reconstructed.csv[/]
    """
    from pushforward.command import pipeline

    with pipeline.use(name, version, url, local, key) as command:
        inputs = command.read(files, input_form, id_name=id_name)
        command.reconstruct(inputs, label, pipeline.OutputOptions(out, form, scale), beside=beside)


@commands.command(rich_help_panel=USE)
def encode(
    name: Name,
    files: Files,
    id_name: Id = None,
    label: Label = None,
    input_form: Format = None,
    url: Url = _URL,
    local: Local = None,
    key: Key = None,
    version: Number = None,
    out: Out = None,
    form: As = None,
) -> None:
    """Encode items: the mean and log-variance of each one's posterior. npy holds the means alone.

    [cyan]pushforward encode fashion-vae garments/ --out latents.npy[/]
    """
    from pushforward.command import pipeline

    with pipeline.use(name, version, url, local, key) as command:
        inputs = command.read(files, input_form, id_name=id_name)
        command.encode(inputs, label, pipeline.OutputOptions(out, form))


@commands.command(rich_help_panel=USE)
def decode(
    name: Name,
    files: Files,
    label: Label = None,
    input_form: Format = None,
    url: Url = _URL,
    local: Local = None,
    key: Key = None,
    version: Number = None,
    out: Out = None,
    form: As = None,
    scale: Scale = None,
) -> None:
    """Decode latents, rows of D numbers.

    [cyan]pushforward decode fashion-vae latents.npy --out grid.png[/]
    """
    from pushforward.command import pipeline

    with pipeline.use(name, version, url, local, key) as command:
        command.decode(
            command.read(files, input_form, latents=True), label, pipeline.OutputOptions(out, form, scale)
        )


@commands.command(rich_help_panel=USE)
def score(
    name: Name,
    files: Files,
    statistic: Annotated[
        Statistic | None,
        typer.Option(
            help="Statistic behind the surprise; without it, the default of the version. The first five "
            "are for VAEs, the last three for GANs. corrected, path and kernel_density are deterministic, "
            "and fast if named here."
        ),
    ] = None,
    draws: Annotated[int | None, typer.Option(min=1, help="Latent draws per item, for the bounds.")] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, max=_MAX_SEED, help="Seed of the draws, the same for every row.")
    ] = None,
    alpha: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Share of ordinary items that may be flagged as anomalies."),
    ] = None,
    correction: Annotated[
        Literal["none", "benjamini-hochberg"],
        typer.Option(
            help="none; or benjamini-hochberg, with which alpha is the share of the flagged items that "
            "may be ordinary."
        ),
    ] = "none",
    columns: Annotated[
        bool,
        typer.Option(
            "--columns", help="Also write the p-value of each column of a table; a terminal names the least."
        ),
    ] = False,
    surprise_map: Annotated[
        str | None,
        typer.Option(
            "--map",
            metavar="FILE",
            help="Also write how surprising each value of each item is, as .png, .npy, .npz, .csv, "
            ".parquet or .json.",
            rich_help_panel="Output",
        ),
    ] = None,
    id_name: Id = None,
    overlay: Annotated[
        bool,
        typer.Option(
            "--overlay", help="Lay a .png of --map over the items, in grey.", rich_help_panel="Output"
        ),
    ] = False,
    top: Top = None,
    label: Label = None,
    input_form: Format = None,
    url: Url = _URL,
    local: Local = None,
    key: Key = None,
    version: Number = None,
    out: Out = None,
    form: As = None,
    scale: Scale = None,
) -> None:
    """Score items by how anomalous they are; in a terminal, the anomalies come first.

    Rows are numbered from 0. The columns of a table are matched by name.

    [cyan]pushforward score breast-cancer-vae data.csv[/]
    [cyan]pushforward score breast-cancer-vae data.csv --top 20 --out worst.csv[/]
    [cyan]cat data.csv | pushforward score breast-cancer-vae - --format csv | head[/]
    [cyan]pushforward score fashion-vae garments/ --statistic path --map heat.png --overlay[/]
    """
    from pushforward.command import pipeline

    options = {
        "statistic": statistic,
        "draws": draws,
        "seed": seed,
        "alpha": alpha,
        "correction": correction,
        "columns": columns,
        "label": label,
    }
    with pipeline.use(name, version, url, local, key) as command:
        map_output = None if surprise_map is None else pipeline.OutputOptions(surprise_map, None, scale)
        command.score(
            command.read(files, input_form, id_name=id_name),
            options,
            top,
            pipeline.OutputOptions(out, form),
            map_output,
            overlay=overlay,
        )


@commands.command(rich_help_panel=USE)
def discriminate(
    name: Name,
    files: Files,
    top: Top = None,
    id_name: Id = None,
    label: Label = None,
    input_form: Format = None,
    url: Url = _URL,
    local: Local = None,
    key: Key = None,
    version: Number = None,
    out: Out = None,
    form: As = None,
) -> None:
    """Judge items by the discriminator of a GAN; in a terminal, the least real ones come first.

    [cyan]pushforward discriminate fashion-gan garments/ --out judged.csv[/]
    """
    from pushforward.command import pipeline

    with pipeline.use(name, version, url, local, key) as command:
        inputs = command.read(files, input_form, id_name=id_name)
        command.discriminate(inputs, top, label, pipeline.OutputOptions(out, form))
