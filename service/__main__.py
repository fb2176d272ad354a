"""`pushforward-serve`, or `python -m service`: serve the published models of a folder."""

from __future__ import annotations

import contextlib
import signal
import sys
from typing import NoReturn

from pydantic import ValidationError
from pydantic_settings import CliApp, SettingsError

from service.app import create_app
from service.errors import CannotListen, ServiceError
from service.observe.logs import configure_logs
from service.observe.metrics import Metrics
from service.process.ports import bind_socket, serve_metrics
from service.process.server import Server
from service.process.supervisor import ReplicaFailed, supervise
from service.runtime.allocator import keep_heaps_small
from service.settings import Settings

EXIT_CANNOT_START = 2


def main() -> None:
    """Read the settings, serve until a signal, and exit with 0; with 2 if the service cannot start."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # until the server sets its own handler
    keep_heaps_small()
    try:
        settings = CliApp.run(Settings)
    except (ValidationError, SettingsError) as error:
        _give_up(_first_flaw(error))
    replicas = settings.replicas
    configure_logs(settings.log_level, settings.log_format, show_process=replicas > 1)
    try:
        if replicas > 1:
            supervise(settings, replicas)
        else:
            _serve(settings)
    except ServiceError as error:
        _give_up(error.detail)
    except (CannotListen, ReplicaFailed) as error:
        _give_up(str(error))


def _serve(settings: Settings) -> None:
    listener = bind_socket(settings.host, settings.port)
    metrics = Metrics()
    if settings.metrics_port is not None:
        serve_metrics(metrics, bind_socket(settings.host, settings.metrics_port))
    server = Server(create_app(settings, metrics), settings)
    with contextlib.suppress(SystemExit):  # uvicorn exits by itself if the app cannot start
        server.run(sockets=[listener])
    sys.exit(0 if server.started else EXIT_CANNOT_START)


def _first_flaw(error: ValidationError | SettingsError) -> str:
    if isinstance(error, SettingsError):
        return str(error)
    flaw = error.errors(include_url=False)[0]
    name = "-".join(str(part) for part in flaw["loc"]).replace("_", "-")
    return f"--{name}: {flaw['msg']}"


def _give_up(reason: str) -> NoReturn:
    sys.stderr.write(f"pushforward-serve: {reason}\n")
    sys.exit(EXIT_CANNOT_START)


if __name__ == "__main__":
    main()
