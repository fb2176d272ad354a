"""Runs the command `pushforward` in this process, with its true standard streams and exit status."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest
from typer.main import get_command

from pushforward.command import app as application


@dataclass(frozen=True)
class Done:
    """A command that has ended."""

    status: int
    out: bytes
    error: str

    @property
    def text(self) -> str:
        assert self.status == 0, self.error
        return self.out.decode()


Run = Callable[..., Done]


@cache
def _parser() -> Any:
    """Return the parser of all commands, which takes as long to make as most commands take."""
    return get_command(application.app)


def make_run(monkeypatch: pytest.MonkeyPatch, streams: pytest.CaptureFixture[bytes]) -> Run:
    """Return a function that runs the command with arguments, and perhaps bytes on standard input."""

    monkeypatch.setattr(application, "app", _parser())

    def command(*arguments: object, stdin: bytes = b"") -> Done:
        monkeypatch.setattr(sys, "argv", ["pushforward", *map(str, arguments)])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        streams.readouterr()
        status = 0
        try:
            application.run()
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else int(end.code is not None)
        out, error = streams.readouterr()
        return Done(status, out, error.decode())

    return command
