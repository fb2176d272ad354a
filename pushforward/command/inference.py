"""The commands that use a model: those of a service, or with `--local` those of a folder.

Everything but typer is imported when a command runs, so that `pushforward --help` and `pushforward serve`
need none of it.
"""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from pushforward.command.completion import complete_model
from pushforward.command.options import (
    MAX_SEED,
    URL,
    USE,
    Alpha,
    As,
    Files,
    Format,
    Id,
    Key,
    Label,
    Local,
    Method,
    Name,
    Offset,
    Out,
    SampleLabel,
    SampleOutput,
    Scale,
    ScoreSeed,
    StatisticName,
    Temperature,
    Top,
    Url,
    Version,
)

commands = typer.Typer()


@commands.command(rich_help_panel=USE)
def models(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="MODEL", help="The model to show.", show_default=False, autocompletion=complete_model
        ),
    ] = None,
    url: Url = URL,
    local: Local = None,
    key: Key = None,
    version: Version = None,
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
        int | None,
        typer.Option(
            min=1,
            help="Number of samples; without it, that of --labels, 4096 for the picture of a density, or 1.",
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(min=0, max=MAX_SEED, help="Seed of the noise; without it, a fresh one, which is shown."),
    ] = None,
    offset: Offset = 0,
    temperature: Temperature = 1.0,
    output: SampleOutput = "mean",
    method: Method = "direct",
    budget: Annotated[
        int | None,
        typer.Option(min=1, help="Proposals per sample, for all methods but direct; 16 without it."),
    ] = None,
    label: SampleLabel = None,
    labels: Annotated[
        str | None,
        typer.Option(metavar="LABELS", help="Class of each sample, with commas between them: 3,1,cat."),
    ] = None,
    url: Url = URL,
    local: Local = None,
    key: Key = None,
    version: Version = None,
    out: Out = None,
    form: As = None,
    scale: Scale = None,
) -> None:
    """Draw samples. Sample i of a seed is always the same.

    [cyan]pushforward sample fashion-vae --count 64 --seed 7 --out grid.png[/]
    [cyan]pushforward sample breast-cancer-vae --count 1000 --output draw --out rows.csv[/]
    [cyan]pushforward sample digits-gan --labels 2,0,2,6 --out year.png[/]
    """
    from pushforward.command import pipeline

    options = {"temperature": temperature, "output": output, "method": method, "budget": budget}
    with pipeline.use(name, version, url, local, key) as command:
        wanted = pipeline.OutputOptions(out, form, scale)
        command.sample(count, seed, offset, options, pipeline.classes_of(label, labels), wanted)


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
    url: Url = URL,
    local: Local = None,
    key: Key = None,
    version: Version = None,
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
    url: Url = URL,
    local: Local = None,
    key: Key = None,
    version: Version = None,
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
    url: Url = URL,
    local: Local = None,
    key: Key = None,
    version: Version = None,
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
    url: Url = URL,
    local: Local = None,
    key: Key = None,
    version: Version = None,
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
    url: Url = URL,
    local: Local = None,
    key: Key = None,
    version: Version = None,
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
    statistic: StatisticName = None,
    draws: Annotated[int | None, typer.Option(min=1, help="Latent draws per item, for the bounds.")] = None,
    seed: ScoreSeed = None,
    alpha: Alpha = None,
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
    id_name: Id = None,
    label: Label = None,
    input_form: Format = None,
    url: Url = URL,
    local: Local = None,
    key: Key = None,
    version: Version = None,
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
    overlay: Annotated[
        bool,
        typer.Option(
            "--overlay", help="Lay a .png of --map over the items, in grey.", rich_help_panel="Output"
        ),
    ] = False,
    top: Top = None,
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
    id_name: Id = None,
    label: Label = None,
    input_form: Format = None,
    url: Url = URL,
    local: Local = None,
    key: Key = None,
    version: Version = None,
    top: Top = None,
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
