"""What a page of a report is made of, and how it becomes HTML that asks for nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

_TEMPLATE = Path(__file__).parent / "page.html"


@dataclass(frozen=True)
class Picture:
    """A picture and what is said of it."""

    source: str
    """A data: URI."""
    alt: str
    """What a person who cannot see it should know."""
    label: str = ""
    """A few words: above a plot or a picture, beside a strip."""
    caption: str = ""
    """One or two sentences below it."""


@dataclass(frozen=True)
class Table:
    """Rows of text under a head; `align` has one letter per column, l or r."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    align: str
    caption: str = ""


@dataclass(frozen=True)
class Section:
    """A heading, and below it, in this order, whatever there is."""

    heading: str
    text: tuple[str, ...] = ()
    """Paragraphs."""
    code: str = ""
    """A command to type, or a formula."""
    tables: tuple[Table, ...] = ()
    pictures: tuple[Picture, ...] = ()
    """Shown in their own size, side by side where there is room."""
    thumbnails: tuple[Picture, ...] = ()
    """Four beside each other where there is room, else two."""
    strips: tuple[Picture, ...] = ()
    """Rows of small pictures below each other, each beside its label."""
    plots: tuple[Picture, ...] = ()
    """Two beside each other where there is room."""


@dataclass(frozen=True)
class Page:
    """A whole report."""

    name: str
    title: str
    facts: tuple[tuple[str, str], ...]
    """Names and values, for the head of the page."""
    settings: Table
    """What decides the rest; folded away."""
    sections: tuple[Section, ...]
    kind: str = "training report"
    """What the page is, for the browser's title."""
    settings_heading: str = "Recipe"


def render(page: Page) -> str:
    """The page as HTML with all its styles and pictures inside; every text in it is escaped."""
    import jinja2  # takes a tenth of a second to import: only for those who want a report

    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(_TEMPLATE.read_text(encoding="utf-8")).render(page=page)
