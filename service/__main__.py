"""`pushforward-serve`, or `python -m service`: serves the published models of a folder."""

from __future__ import annotations

import contextlib
import signal
import sys
from types import FrameType
from typing import NoReturn

from pydantic import ValidationError
from pydantic_settings import CliApp, SettingsError

from service.app import create_app
from service.errors import CannotListen, ServiceError
from service.observe.logs import configure_logs
from service.observe.metrics import Metrics
from service.process.ports import bound, expose
from service.process.server import server_for
from service.process.supervisor import ReplicaFailed, supervise
from service.runtime.allocator import keep_heaps_small
from service.settings import Settings

EXIT_CANNOT_START = 2


def main() -> None:
    """Reads the settings, serves until told to stop, and exits 0; 2 when it cannot start."""
    signal.signal(signal.SIGTERM, _stop_before_serving)
    keep_heaps_small()
    try:
        settings = CliApp.run(Settings)
    except (ValidationError, SettingsError) as error:
        _give_up(_first_flaw(error))
    replicas = settings.replicas
    configure_logs(settings.log_level, settings.log_format, tells_process=replicas > 1)
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
    listener = bound(settings.host, settings.port)
    metrics = Metrics()
    if settings.metrics_port is not None:
        expose(metrics, bound(settings.host, settings.metrics_port))
    server = server_for(create_app(settings, metrics), settings)
    with contextlib.suppress(SystemExit):  # uvicorn's own status where the app cannot start
        server.run(sockets=[listener])
    sys.exit(0 if server.started else EXIT_CANNOT_START)


def _stop_before_serving(_number: int, _frame: FrameType | None) -> NoReturn:
    sys.exit(0)


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
