"""The commands that run a service: `serve`, and `alias`, `verify` and `repack` for published versions.

Everything but typer is imported when a command runs.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from pushforward.command.serve import serve
from pushforward.command.train import EXTRA, PASSED_ON
from service.errors import ServiceError, UnknownModel

if TYPE_CHECKING:
    from service.format.manifest import Manifest

RUN_IT: Final = "Run it"
_MOST_ROWS: Final = 64

commands = typer.Typer()

Models = Annotated[
    Path,
    typer.Option(envvar="PUSHFORWARD_MODELS", help="Folder of published versions, NAME/VERSION."),
]


@commands.command(name="serve", rich_help_panel=RUN_IT, add_help_option=False, context_settings=PASSED_ON)
def serve_command(context: typer.Context) -> None:
    """Serve a folder of published models over HTTP; --demo serves a model that comes with the package."""
    serve(context.args)


@commands.command(rich_help_panel=RUN_IT)
def alias(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Name of the model.")],
    name: Annotated[
        str | None, typer.Argument(metavar="ALIAS", help="champion, challenger, or any name.")
    ] = None,
    version: Annotated[
        int | None, typer.Argument(metavar="VERSION", help="The version that it names.")
    ] = None,
    remove: Annotated[bool, typer.Option("--remove", help="Remove the alias.")] = False,
    models: Models = Path("models"),
) -> None:
    """Show, set or remove names of a model's versions, such as champion.

    Requests that name no version go to the champion, or else to the newest version.

    `pushforward alias digits-vae champion 2` makes version 2 the champion.
    A running service follows within seconds.
    """
    from pushforward.folder import model_folder
    from service.format.aliases import change_alias, read_aliases

    if (name is not None) != (remove != (version is not None)):
        raise typer.BadParameter("give an alias and a version, an alias and --remove, or neither")
    try:
        folder = model_folder(models, model)
    except UnknownModel as error:
        raise UnknownModel(f"{models / model}: {error.detail}; --models names another folder") from error
    aliases = read_aliases(folder) if name is None else change_alias(folder, name, version)
    for each, number in sorted(aliases.items()):
        typer.echo(f"{each} {number}")


@commands.command(rich_help_panel=RUN_IT)
def verify(
    versions: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL_OR_VERSION",
            help="Folders, e.g. models/digits-vae/3, or names, e.g. digits-vae or digits-vae/3.",
        ),
    ],
    models: Models = Path("models"),
) -> None:
    """Check published versions: manifest, hashes, and the stored self-test on ONNX Runtime.

    With the extra train installed, also the rules for graphs: operators, opset and shapes.
    A broken version is reported, the others are checked all the same, and the exit status is 1.
    """
    folders = [folder for text in versions for folder in _version_folders(text, models)]
    check, expected = _check()
    broken = False
    for folder in folders:
        try:
            manifest = check(Path(os.path.abspath(folder)))  # whose last parts are NAME and VERSION
        except expected as error:
            broken = True
            typer.echo(f"{folder}: broken: {error}", err=True)
        else:
            typer.echo(f"{folder}: sound; {manifest.name} offers {', '.join(manifest.operations)}")
            for line in filter(None, (manifest.agreement, manifest.doubts)):
                typer.echo(f"  {line}")
    if check is _check_without_training:
        typer.echo(f"left out: the rules for graphs (operators, opset, shapes); they need {EXTRA}", err=True)
    if broken:
        raise typer.Exit(1)


@commands.command(rich_help_panel=RUN_IT)
def repack(
    versions: Annotated[
        list[str],
        typer.Argument(metavar="VERSION", help="Folders or names, e.g. digits-vae/3."),
    ],
    models: Models = Path("models"),
) -> None:
    """Publish versions again, as the next ones, with every weight stored once; answers keep their bytes.

    Older programs stored a copy of the weights in each graph, or held large ones in memory for each.
    It needs the extra train.
    """
    from training.export.repack import repack as published

    for folder in [folder for text in versions for folder in _version_folders(text, models)]:
        typer.echo(published(Path(os.path.abspath(folder))))


def _version_folders(text: str, models: Path) -> list[Path]:
    """Return the folder of the version, or those of all versions of the model, that an argument names."""
    from service.format.manifest import VERSION
    from service.format.versions import MANIFEST, version_folders

    for folder in (Path(text), models / text):
        if folder.is_dir():
            if (folder / MANIFEST).is_file() or re.fullmatch(VERSION, folder.name):
                return [folder]
            if versions := version_folders(folder):
                return versions
    raise UnknownModel(
        f"there is no version or model {text}, neither as a folder nor under {models}; {_known(models)}"
    )


def _known(models: Path) -> str:
    """Return a phrase with the models of a folder; `--models` names another one."""
    from pushforward.folder import model_names

    names = model_names(models) if models.is_dir() else []
    return f"there are: {', '.join(names) or 'none'}; --models names another folder"


def _check() -> tuple[Callable[[Path], Manifest], tuple[type[Exception], ...]]:
    """Return the most thorough check that the installed packages allow, and the errors that it raises."""
    try:
        from training.export.rules import GraphError
        from training.export.sessions import verify_version
    except ModuleNotFoundError:
        return _check_without_training, (ServiceError,)
    return verify_version, (ServiceError, GraphError)


def _check_without_training(folder: Path) -> Manifest:
    """Check a version's manifest, hashes, prior and self-test as the service does.

    Raises:
        ServiceError: the version is broken.
    """
    from service.format.versions import read_manifest, verify_files
    from service.numerics.prior import read_prior
    from service.runtime.engine import Engine

    manifest = read_manifest(folder)
    verify_files(folder, manifest)
    read_prior(folder, manifest)
    Engine(folder, manifest, "cpu", _MOST_ROWS).self_test(folder)
    return manifest
