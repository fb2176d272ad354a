"""The root of the command `pushforward`: its help, its commands, and how errors end."""

from __future__ import annotations

import signal
import sys
from collections.abc import Mapping
from importlib.metadata import version
from typing import Annotated, Final

import typer

from pushforward.command import bulk, inference, options, publish, running, train
from service import errors

USER_MISTAKE: Final = 2
"""The exit status for a mistake of the user; that of any other error is 1."""
_MISTAKES: Final = (
    errors.BodyTooLarge,
    errors.InvalidAliases,
    errors.KeyMissing,
    errors.KeyUnknown,
    errors.Malformed,
    errors.NotFound,
    errors.Unfit,
    errors.UnsupportedMedia,
)
_KEY: Final = "; here --key or the variable PUSHFORWARD_KEY gives it"
_WAYS_OUT: Final[Mapping[type[errors.ServiceError], str]] = {
    errors.KeyMissing: _KEY,
    errors.KeyUnknown: _KEY,
    errors.Unreachable: "; --local and a folder of models need no service",
}
"""The ways out that a terminal offers, beside those in the message."""
_MOST_FLAWS: Final = 10

app = typer.Typer(
    name="pushforward",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="""Train VAEs and GANs, publish them, serve them, and use them.

    \b
    [bold]Start here[/]
    [cyan]pushforward serve --demo[/]        serve a model of digits on port 8000
    [cyan]pushforward models[/]              list what is served, in another terminal
    [cyan]pushforward sample digits-vae --count 64 --seed 7 --out digits.png[/]
    [cyan]pushforward init table.csv[/]      look at your own data, write a recipe
    [cyan]pushforward train table.toml[/]    train it, and publish it in models/

    Every command has [cyan]--help[/].""",
)
app.add_typer(inference.commands)
app.add_typer(bulk.commands, name="bulk", rich_help_panel=options.USE)
app.add_typer(train.commands)
app.add_typer(publish.commands, name="publish", rich_help_panel=train.MAKE)
app.add_typer(running.commands)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"pushforward {version('pushforward')}")
        raise typer.Exit


@app.callback()
def _root(
    _: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version, and exit."),
    ] = False,
) -> None:
    pass


def run() -> None:
    """Run the command of the arguments; an expected error becomes one line and an exit status.

    SIGTERM ends the command as Ctrl-C does: what it had begun is cleaned up. Their statuses are 143 and 130,
    as shells have them.
    """
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    try:
        app(prog_name="pushforward")
    except errors.ServiceError as error:
        _end(
            error.detail + _WAYS_OUT.get(type(error), ""),
            USER_MISTAKE if isinstance(error, _MISTAKES) else 1,
            error.flaws,
        )
    except ModuleNotFoundError as error:
        library = (error.name or "").partition(".")[0]
        if library in ("pushforward", "service", "training"):
            raise
        _end(f"{library} is not installed, which this command needs: {train.EXTRA}", 1)
    except FileNotFoundError as error:
        _end(f"{error.filename}: {error.strerror}; correct the path", USER_MISTAKE)
    except (IsADirectoryError, NotADirectoryError, PermissionError) as error:
        _end(f"{error.filename}: {error.strerror}", USER_MISTAKE)
    except OSError as error:
        _end(f"{error.filename}: {error.strerror}" if error.filename and error.strerror else str(error), 1)


def _end(message: str, status: int, flaws: tuple[errors.Flaw, ...] = ()) -> None:
    lines = [f"error: {message}"]
    lines += [
        f"  {flaw.pointer or 'body'}{'' if flaw.row is None else f', row {flaw.row}'}: {flaw.message}"
        for flaw in flaws[:_MOST_FLAWS]
    ]
    if len(flaws) > _MOST_FLAWS:
        lines.append(f"  and {len(flaws) - _MOST_FLAWS} more")
    sys.stderr.write("\n".join(lines) + "\n")
    sys.exit(status)
