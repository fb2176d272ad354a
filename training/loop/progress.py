"""Progress bars for a training run, with its latest terms, and for all that is counted; without torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

OnProgress = Callable[[int, str], None]
"""Takes the number of steps done and the latest terms as text."""
Advance = Callable[[int], None]
"""Takes how many more items are done."""


@contextmanager
def progress_bar(name: str, total: int, quiet: bool) -> Iterator[OnProgress]:
    """Show a bar on standard error, unless `quiet`; yields the function that moves it."""
    with _bar(quiet, TextColumn("{task.fields[terms]}")) as progress:
        task = progress.add_task(name, total=total, terms="")
        yield lambda done, terms: progress.update(task, completed=done, terms=terms)


@contextmanager
def counter(name: str, total: int, quiet: bool) -> Iterator[Advance]:
    """Show a bar on standard error, unless `quiet`; yields the function that advances it."""
    with _bar(quiet) as progress:
        yield partial(progress.advance, progress.add_task(name, total=total))


@contextmanager
def passing_counter(name: str, total: int) -> Iterator[Advance]:
    """Show a bar on standard error, if that is a terminal, until the block ends; yields what advances it."""
    with _bar(not Console(stderr=True).is_terminal, transient=True) as progress:
        yield partial(progress.advance, progress.add_task(name, total=total))


def _bar(quiet: bool, *more: ProgressColumn, transient: bool = False) -> Progress:
    columns = (
        TextColumn("[bold]{task.description}"),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        *more,
    )
    return Progress(*columns, console=Console(stderr=True), transient=transient, disable=quiet)
