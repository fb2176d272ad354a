"""`pushforward-serve`, or `python -m service`: serves the published models of a folder."""

from __future__ import annotations

import contextlib
import logging
import signal
import sys
from types import FrameType
from typing import NoReturn

from pydantic import ValidationError
from pydantic_settings import CliApp, SettingsError

from service.address import CannotListen, bound
from service.app import create_app
from service.errors import ServiceError
from service.processes import ReplicaFailed, supervise
from service.server import server_for
from service.settings import Settings

EXIT_CANNOT_START = 2


def main() -> None:
    """Reads the settings, serves until told to stop, and exits 0; 2 when it cannot start."""
    signal.signal(signal.SIGTERM, _stop_before_serving)
    try:
        settings = CliApp.run(Settings)
    except (ValidationError, SettingsError) as error:
        _give_up(_first_flaw(error))
    replicas = settings.replicas
    who = " %(processName)s" if replicas > 1 else ""
    logging.basicConfig(
        level=settings.log_level.upper(), format=f"%(asctime)s %(levelname)s{who} %(name)s: %(message)s"
    )
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
    server = server_for(create_app(settings), settings)
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
