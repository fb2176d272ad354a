"""The command `pushforward-serve`: options are read, and one process or several serve."""

from __future__ import annotations

import argparse
import contextlib
import difflib
import os
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

from pydantic import ValidationError
from pydantic_settings import CliApp, CliSettingsSource, SettingsError

from service.app import create_app
from service.errors import CannotListen, ServiceError
from service.observe.logs import configure_logs
from service.observe.metrics import Metrics
from service.process.descriptors import lack_of_files
from service.process.ports import bind_socket, serve_metrics
from service.process.server import Server
from service.process.supervisor import ReplicaFailed, supervise
from service.runtime.allocator import keep_heaps_small
from service.settings import Settings, unknown_variable

EXIT_CANNOT_START = 2


class _HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Formats the help without a default where there is none."""

    def _get_help_string(self, action: argparse.Action) -> str:
        return (action.help or "").removesuffix(" (default: null)").removesuffix(" (default: )")


def run(program: str = "pushforward-serve", kind: type[Settings] = Settings) -> None:
    """Read the settings, serve until a signal, and exit with 0; with 2 if the service cannot start.

    `program` is the command in messages; `kind` is the class of the settings.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # until the server sets its own handler
    keep_heaps_small()
    if flaw := _wrong_argument(sys.argv[1:], kind):
        _give_up(program, flaw)
    if not {"-h", "--help"}.isdisjoint(sys.argv):
        kind.describe_fields()
    try:
        source: CliSettingsSource[None] = CliSettingsSource(
            kind, cli_prog_name=program, formatter_class=_HelpFormatter
        )
        settings = CliApp.run(kind, cli_settings_source=source)
    except (ValidationError, SettingsError) as error:
        _give_up(program, _first_flaw(error))
    if flaw := unknown_variable(os.environ):
        _give_up(program, flaw)
    replicas = settings.replicas
    if flaw := lack_of_files(replicas):
        _give_up(program, flaw)
    configure_logs(settings.log_level, settings.log_format, show_process=replicas > 1)
    try:
        if replicas > 1:
            supervise(settings, replicas)
        else:
            _serve(settings)
    except ServiceError as error:
        _give_up(program, error.detail)
    except (CannotListen, ReplicaFailed) as error:
        _give_up(program, str(error))


def _serve(settings: Settings) -> None:
    listener = bind_socket(settings.host, settings.port)
    metrics = Metrics()
    if settings.metrics_port is not None:
        serve_metrics(metrics, bind_socket(settings.host, settings.metrics_port))
    server = Server(create_app(settings, metrics), settings)
    with contextlib.suppress(SystemExit):  # uvicorn exits by itself if the app cannot start
        server.run(sockets=[listener])
    sys.exit(0 if server.started else EXIT_CANNOT_START)


def _wrong_argument(arguments: Sequence[str], kind: type[Settings]) -> str:
    """Return what is wrong with the first argument that is no option, or an empty text.

    The parser tells of it below the usage of all options, which fills a terminal.
    """
    names = [name.replace("_", "-") for name in kind.model_fields]
    known = ["--help", *(f"--{name}" for name in names), *(f"--no-{name}" for name in names)]
    if arguments and not arguments[0].startswith("-"):
        return f"{arguments[0]!r} is no option; a folder of models is named by --models {arguments[0]}"
    for text in arguments:
        name = text.partition("=")[0]
        if name.startswith("--") and not any(each.startswith(name) for each in known):
            near = difflib.get_close_matches(name, known, 1, 0)[0]
            return f"{name} is no option; the nearest is {near}, and --help lists all"
    return ""


def _first_flaw(error: ValidationError | SettingsError) -> str:
    if isinstance(error, SettingsError):
        return str(error)
    flaw = error.errors(include_url=False)[0]
    name = "-".join(str(part) for part in flaw["loc"]).replace("_", "-")
    message = flaw["msg"].removeprefix("Value error, ")
    return f"--{name}: {message}" if name else f"--{message}"


def _give_up(program: str, reason: str) -> NoReturn:
    sys.stderr.write(f"{program}: {reason}\n")
    sys.exit(EXIT_CANNOT_START)
