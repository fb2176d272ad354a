"""Completions in a shell beside those of commands and options: the names of models.

Everything but typer is imported when a shell completes.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Final

import typer

_COMPLETION_SECONDS: Final = 1.0


def complete_model(context: typer.Context, incomplete: str) -> list[str]:
    """Return the names of models that begin with a text; none if they take more than a second to get."""
    local, url, key = (context.params.get(name) for name in ("local", "url", "key"))
    with suppress(Exception):  # a shell that completes has no place for an error
        if local is not None:
            names = sorted(each.name for each in Path(local).iterdir() if each.is_dir())
        else:
            from pushforward.client import Client

            with Client(url, key=key, timeout_seconds=_COMPLETION_SECONDS) as client:
                names = [entry["name"] for entry in client.models()]
        return [name for name in names if name.startswith(incomplete)]
    return []
