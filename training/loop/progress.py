"""Progress of a training run, with its latest terms, and of all else that is counted; without torch."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

OnProgress = Callable[[int, str], None]
"""Takes the number of steps done and the latest terms as text."""
Advance = Callable[[int], None]
"""Takes how many more items are done."""

_LINE_SECONDS = 30.0
"""The time between lines where no terminal shows a bar, as in the log of a container."""


@contextmanager
def progress_bar(name: str, total: int, quiet: bool) -> Iterator[OnProgress]:
    """Show a bar on standard error, or lines if that is no terminal, unless `quiet`; yields what moves it."""
    if not quiet and not Console(stderr=True).is_terminal:
        lines = _Lines(name, total)
        yield lines
        lines.end()
        return
    with _bar(quiet) as progress:
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


class _Bar(Progress):
    """A bar with its terms on lines below it, where they leave the bar its width."""

    def get_renderables(self) -> Iterator[RenderableType]:
        for task in self.tasks:
            yield self.make_tasks_table([task])
            if terms := task.fields.get("terms"):
                yield Text(terms, "dim")


def _bar(quiet: bool, transient: bool = False) -> Progress:
    columns = (
        TextColumn("[bold]{task.description}"),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    return _Bar(*columns, console=Console(stderr=True), transient=transient, disable=quiet)


class _Lines:
    """Writes a line on standard error now and then, and one at the end."""

    def __init__(self, name: str, total: int) -> None:
        self._name, self._total = name, total
        self._began_at = self._told_at = time.monotonic()
        self._first: int | None = None
        """The steps that were done at the first call: those of a run that is resumed took no time."""
        self._latest: tuple[int, str] | None = None

    def __call__(self, done: int, terms: str) -> None:
        if self._first is None:
            self._first, self._began_at = done, time.monotonic()
        self._latest = done, terms
        if time.monotonic() - self._told_at >= _LINE_SECONDS:
            self._tell(done, terms)

    def end(self) -> None:
        """Write the last line."""
        if self._latest is not None:
            self._tell(*self._latest)

    def _tell(self, done: int, terms: str) -> None:
        self._told_at = time.monotonic()
        gone = self._told_at - self._began_at
        left = gone * (self._total - done) / max(1, done - (self._first or 0))
        place = f"{self._name} {done}/{self._total}, {gone:.0f} s gone, {left:.0f} s left"
        text = ": ".join(filter(None, [place, "; ".join(terms.splitlines())]))
        Console(stderr=True).print(text, markup=False, highlight=False, soft_wrap=True)
