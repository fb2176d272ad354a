"""`pushforward serve`: the service, and the demonstration models that the package carries."""

from __future__ import annotations

import difflib
import itertools
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from service.settings import Settings

PROGRAM: Final = "pushforward serve"
DEMONSTRATION: Final = Path(__file__).parent.parent / "demo"
"""The demonstration models, NAME/VERSION/: copies in a wheel, links to `models/` in the repository."""


def serve(arguments: Sequence[str]) -> None:
    """Serve with those options, as `pushforward-serve` does, until a signal; then exit.

    A folder that is named by `--models` has to be there; a deployment waits for its folder.
    """
    from service.process.command import EXIT_CANNOT_START, run

    folder = _named_folder(arguments)
    if folder is not None and not Path(folder).is_dir():
        sys.stderr.write(f"{PROGRAM}: --models {folder}: no such folder; name one of published versions\n")
        sys.exit(EXIT_CANNOT_START)

    sys.argv = [PROGRAM, *arguments]
    run(PROGRAM, _settings(arguments))


def _named_folder(arguments: Sequence[str]) -> str | None:
    """Return the folder that the last `--models` names, or None without one."""
    named = [value for name, value in itertools.pairwise(arguments) if name == "--models"]
    named += [text.removeprefix("--models=") for text in arguments if text.startswith("--models=")]
    return named[-1] if named else None


def _settings(arguments: Sequence[str]) -> type[Settings]:
    """Return the class of settings, with `--demo` only if it or help is asked for: adding it takes time."""
    from service.settings import Settings

    near = ("--demo", "--no-demo", "--help", "-h")
    is_near = any(text.startswith(near) or difflib.get_close_matches(text, near) for text in arguments)
    if not is_near and "PUSHFORWARD_DEMO" not in os.environ:
        return Settings

    from pydantic import field_validator

    class DemonstrationSettings(Settings):
        __doc__ = Settings.__doc__

        demo: bool = False
        """Serve the demonstration models that come with the package, instead of `models`."""

        @field_validator("demo")
        @classmethod
        def _is_there(cls, demo: bool) -> bool:
            if demo and not any(DEMONSTRATION.glob("*/*/manifest.json")):
                raise ValueError("this installation carries no demonstration models; name a folder: --models")
            return demo

        @property
        def folder(self) -> Path:
            return DEMONSTRATION if self.demo else super().folder

    return DemonstrationSettings
