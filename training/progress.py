"""The progress bar of a training run: steps, time left, and the latest terms."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

Watch = Callable[[int, str], None]
"""Told after every step: steps done, and the latest terms as text."""


@contextmanager
def progress_bar(name: str, total: int, quiet: bool) -> Iterator[Watch]:
    """A bar on standard error, or nothing if `quiet`; yields what moves it."""
    columns = (
        TextColumn("[bold]{task.description}"),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[terms]}"),
    )
    with Progress(*columns, console=Console(stderr=True), disable=quiet) as progress:
        task = progress.add_task(name, total=total, terms="")
        yield lambda done, terms: progress.update(task, completed=done, terms=terms)
