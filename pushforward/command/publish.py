"""The commands of `publish`: versions from files of ONNX or torch, and from folders of other libraries."""

from __future__ import annotations

import contextlib
import difflib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer.core import TyperGroup

from service.errors import Unfit

if TYPE_CHECKING:
    import numpy as np


class _Kinds(TyperGroup):
    """The kinds of models, the first argument of `publish`."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the command of the kind that the first argument names.

        Raises:
            Unfit: It names none.
        """
        kind = args[0]
        if ctx.resilient_parsing or kind.startswith("-") or kind in self.commands:
            return super().resolve_command(ctx, args)
        near = difflib.get_close_matches(kind, self.commands, 1)
        raise Unfit(
            f"{kind!r} is no kind of model; wanted {', '.join(self.commands)}"
            f"{f': perhaps {near[0]}' if near else ''}. The kind comes first, then a name and the files: "
            "pushforward publish vae NAME --encoder FILE --decoder FILE ...; `pushforward publish vae "
            "--help` lists its options"
        )


commands = typer.Typer(
    cls=_Kinds,
    no_args_is_help=True,
    help="Publish a model that was trained elsewhere, from its files.",
    pretty_exceptions_enable=False,
)

_Name = Annotated[
    str, typer.Argument(metavar="NAME", help="The model's name: lower-case letters, digits and hyphens.")
]
_File = typer.Option(
    help="A file of ONNX, torch.export (.pt2) or TorchScript, with a free batch axis.", dir_okay=False
)
_Latent = Annotated[int, typer.Option(help="D, the number of latent dimensions.")]
_Shape = Annotated[str, typer.Option(help="The shape of an item as the service takes it: 1,28,28 or 30.")]
_Likelihood = Literal["bernoulli", "continuous-bernoulli", "gaussian", "laplace"]
_Values = Annotated[
    Literal["0..1", "-1..1", "0..255", "real"] | None,
    typer.Option(help="The range that items have for the networks; the service takes pictures in [0, 1]."),
]
_Channels = Annotated[
    Literal["first", "last"], typer.Option(help="Where the networks have the channels of pictures.")
]
_Scale = Annotated[
    float | None,
    typer.Option(
        help="The scale of a gaussian (its standard deviation) or laplace; by default fitted on the normal "
        "items."
    ),
]
_Classes = Annotated[
    str | None,
    typer.Option(
        help="If the networks take the class of each row as a second input: the names of the classes, as "
        "cat,dog, or their number."
    ),
]
_LabelsAs = Annotated[
    Literal["index", "one_hot"],
    typer.Option(help="How the networks take the class: whole numbers, or one-hot."),
]
_Normals = Annotated[
    Path | None,
    typer.Option(
        help="Normal items (N, ...) as the encoder takes them, for p-values: an .npy or .npz file, or a "
        "folder of pictures."
    ),
]
_Models = Annotated[Path, typer.Option(help="The folder of published models.", file_okay=False)]
_Description = Annotated[str, typer.Option(help="A sentence for the catalogue and the model card.")]
_Draws = Annotated[int, typer.Option(help="Latent draws per item of the bounds.", min=2)]
_Seed = Annotated[int, typer.Option(help="The seed of those draws.", min=0)]
_Alpha = Annotated[float | None, typer.Option(help="The default level of anomalies.", min=0, max=1)]
_Quiet = Annotated[bool, typer.Option("--quiet", help="Write no lines of progress.")]


@commands.command()
def vae(
    name: _Name,
    encoder: Annotated[Path, _File],
    decoder: Annotated[Path, _File],
    latent_size: _Latent,
    item_shape: _Shape,
    likelihood: Annotated[
        _Likelihood,
        typer.Option(
            help="bernoulli for values 0 and 1, continuous-bernoulli for [0, 1], gaussian of a squared "
            "error, laplace of an absolute one."
        ),
    ] = "bernoulli",
    decoder_gives: Annotated[
        str | None,
        typer.Option(
            help="probabilities or logits; or mean, mean_and_scale, mean_and_variance, mean_and_log_scale, "
            "mean_and_log_variance of a Gaussian; mean, mean_and_scale, mean_and_log_scale of laplace. By "
            "default probabilities, or mean."
        ),
    ] = None,
    encoder_gives: Annotated[
        str, typer.Option(help="What comes with the mean: log_variance, variance, scale or log_scale.")
    ] = "log_variance",
    values: _Values = None,
    channels: _Channels = "first",
    scale: _Scale = None,
    classes: _Classes = None,
    labels_as: _LabelsAs = "index",
    normals: _Normals = None,
    normal_labels: Annotated[
        Path | None,
        typer.Option(
            help="An .npy file of the class of each normal item, a number or a name; by default `labels` of "
            "their .npz, or the sub-folders of their pictures."
        ),
    ] = None,
    models: _Models = Path("models"),
    description: _Description = "",
    statistic: Annotated[str, typer.Option(help="The default statistic; auto chooses one.")] = "auto",
    draws: _Draws = 16,
    seed: _Seed = 0,
    alpha: _Alpha = None,
    quiet: _Quiet = False,
) -> None:
    """Publish a VAE from the files of its encoder and decoder."""
    from pushforward.publishing import publish_vae

    with _refusals():
        version = publish_vae(
            name,
            encoder,
            decoder,
            likelihood=likelihood,
            latent_size=latent_size,
            item_shape=_sizes(item_shape),
            decoder_gives=decoder_gives,  # type: ignore[arg-type]
            encoder_gives=encoder_gives,  # type: ignore[arg-type]
            values=values,
            channels=channels,
            scale=scale,
            classes=_classes(classes),
            labels_as=labels_as,
            normals=_read(normals, _sizes(item_shape)),
            normal_labels=_labels(normal_labels, normals, classes),
            models=models,
            description=description,
            statistic=statistic,
            draws=draws,
            seed=seed,
            alpha=alpha,
            log=_silent if quiet else _progress,
        )
        typer.echo(version)


@commands.command()
def gan(
    name: _Name,
    generator: Annotated[Path, _File],
    latent_size: _Latent,
    item_shape: _Shape,
    discriminator: Annotated[Path | None, _File] = None,
    discriminator_gives: Annotated[
        Literal["logits", "probabilities"], typer.Option(help="What the discriminator gives.")
    ] = "logits",
    objective: Annotated[
        Literal["minimax", "non-saturating", "hinge", "wasserstein", "relativistic"],
        typer.Option(help="The objective that the discriminator was trained with."),
    ] = "non-saturating",
    encoder: Annotated[Path | None, _File] = None,
    values: _Values = None,
    channels: _Channels = "first",
    classes: _Classes = None,
    labels_as: _LabelsAs = "index",
    real: Annotated[
        Path | None,
        typer.Option(
            help="Real items (N, ...) as the networks take them: an .npy or .npz file, or a folder of "
            "pictures."
        ),
    ] = None,
    real_labels: Annotated[
        Path | None,
        typer.Option(
            help="An .npy file of the class of each real item, a number or a name; by default `labels` of "
            "their .npz, or the sub-folders of their pictures."
        ),
    ] = None,
    models: _Models = Path("models"),
    description: _Description = "",
    seed: _Seed = 0,
    alpha: _Alpha = None,
    quiet: _Quiet = False,
) -> None:
    """Publish a GAN from the files of its generator and, if it has them, discriminator and encoder."""
    from pushforward.publishing import publish_gan

    with _refusals():
        version = publish_gan(
            name,
            generator,
            latent_size=latent_size,
            item_shape=_sizes(item_shape),
            discriminator=discriminator,
            discriminator_gives=discriminator_gives,
            objective=objective,
            encoder=encoder,
            values=values or "0..1",
            channels=channels,
            classes=_classes(classes),
            labels_as=labels_as,
            real=_read(real, _sizes(item_shape)),
            real_labels=_labels(real_labels, real, classes),
            models=models,
            description=description,
            seed=seed,
            alpha=alpha,
            log=_silent if quiet else _progress,
        )
        typer.echo(version)


@commands.command()
def pythae(
    name: _Name,
    folder: Annotated[
        Path,
        typer.Argument(metavar="FOLDER", help="The folder that pythae's model.save wrote.", file_okay=False),
    ],
    likelihood: Annotated[
        _Likelihood | None,
        typer.Option(help="Another likelihood than that of its loss: gaussian for bce of grey values."),
    ] = None,
    normals: _Normals = None,
    models: _Models = Path("models"),
    quiet: _Quiet = False,
) -> None:
    """Publish a VAE from a folder of pythae; it needs torch, and unpickles nothing."""
    from pushforward.publishing import publish_pythae

    log, options = _silent if quiet else _progress, {} if likelihood is None else {"likelihood": likelihood}
    with _refusals():
        version = publish_pythae(name, folder, normals=_read(normals), models=models, log=log, **options)
        typer.echo(version)


@commands.command("autoencoder-kl")
def autoencoder_kl(
    name: _Name,
    folder: Annotated[
        Path,
        typer.Argument(metavar="FOLDER", help="The folder that save_pretrained wrote.", file_okay=False),
    ],
    size: Annotated[int | None, typer.Option(help="The height and width of pictures.")] = None,
    scale: _Scale = None,
    normals: _Normals = None,
    models: _Models = Path("models"),
    quiet: _Quiet = False,
) -> None:
    """Publish an AutoencoderKL from a folder of diffusers; it needs torch, and not diffusers."""
    from pushforward.publishing import publish_autoencoder_kl

    log = _silent if quiet else _progress
    with _refusals():
        version = publish_autoencoder_kl(
            name, folder, size=size, scale=scale, normals=_read(normals), models=models, log=log
        )
        typer.echo(version)


@contextlib.contextmanager
def _refusals() -> Iterator[None]:
    """Raise Unfit, which ends the command as a mistake of the user, if the model does not fit."""
    from pushforward.publishing import UnfitModel

    try:
        yield
    except UnfitModel as error:
        raise Unfit(str(error)) from None


def _sizes(text: str) -> tuple[int, ...]:
    """Parse 1,28,28 or 1x28x28.

    Raises:
        typer.BadParameter: It is no list of whole numbers.
    """
    try:
        return tuple(int(size) for size in text.replace("x", ",").split(","))
    except ValueError:
        raise typer.BadParameter(f"--item-shape is {text!r}; wanted sizes like 1,28,28") from None


def _classes(text: str | None) -> list[str] | int | None:
    """Parse names of classes, or their number."""
    if text is None:
        return None
    return int(text) if text.isdecimal() else [name.strip() for name in text.split(",")]


def _read(path: Path | None, shape: tuple[int, ...] | None = None) -> np.ndarray[Any, Any] | None:
    """Read items: an .npy, an .npz or a folder of pictures of a shape.

    Raises:
        typer.BadParameter: They cannot be read so.
    """
    if path is None:
        return None
    from pushforward.publishing.items import read_items

    with _unreadable():
        return read_items(path, shape)


def _labels(given: Path | None, items: Path | None, classes: str | None) -> np.ndarray[Any, Any] | None:
    """Read the classes of items: a file of them, or what is beside the items if there are classes.

    Raises:
        typer.BadParameter: They cannot be read so.
    """
    if given is not None or items is None or classes is None:
        return _read(given)
    from pushforward.publishing.items import read_labels

    with _unreadable():
        return read_labels(items)


@contextlib.contextmanager
def _unreadable() -> Iterator[None]:
    """Raise BadParameter, a mistake of the user, if a file cannot be read."""
    try:
        yield
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def _progress(line: str) -> None:
    typer.echo(line, file=sys.stderr)


def _silent(_: str) -> None:
    pass
