"""The parts of a report's page, and its rendering as HTML that needs no other file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

_TEMPLATE = Path(__file__).parent / "page.html"


@dataclass(frozen=True)
class Picture:
    """A picture with its texts."""

    source: str
    """A data: URI."""
    alt: str
    """The description for a person who cannot see it."""
    label: str = ""
    """A few words above a plot or a picture, or beside a strip."""
    caption: str = ""
    """One or two sentences below it."""


@dataclass(frozen=True)
class Table:
    """Rows of text below a head; `align` has one letter per column, l or r."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    align: str
    caption: str = ""


@dataclass(frozen=True)
class Section:
    """A heading, and below it the parts that are given, in this order."""

    heading: str
    text: tuple[str, ...] = ()
    """Paragraphs."""
    code: str = ""
    """A command to type, or a formula."""
    tables: tuple[Table, ...] = ()
    pictures: tuple[Picture, ...] = ()
    """Pictures in their own size, side by side if there is room."""
    thumbnails: tuple[Picture, ...] = ()
    """Small pictures, four beside each other if there is room, else two."""
    strips: tuple[Picture, ...] = ()
    """Rows of small pictures, each beside its label."""
    plots: tuple[Picture, ...] = ()
    """Plots, two beside each other if there is room."""


@dataclass(frozen=True)
class Page:
    """A whole report."""

    name: str
    title: str
    facts: tuple[tuple[str, str], ...]
    """Names and values at the top of the page."""
    settings: Table
    """The settings of the run; hidden until opened."""
    sections: tuple[Section, ...]
    kind: str = "training report"
    """The kind of page, for the browser's title."""
    settings_heading: str = "Recipe"


def render(page: Page) -> str:
    """Render the page as HTML with its styles and pictures inside; all text is escaped."""
    import jinja2  # imported here, since it takes a tenth of a second

    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(_TEMPLATE.read_text(encoding="utf-8")).render(page=page)
