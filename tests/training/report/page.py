"""A page of HTML, as a reader's browser would find it."""

import base64
from html.parser import HTMLParser
from pathlib import Path


class Page(HTMLParser):
    """The content that a reader's browser would find in a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.references: list[str] = []
        self.pictures_without_words = 0
        self.words = ""
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)
        self.text = " ".join(self.words.split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        values = {name: value or "" for name, value in attrs}
        self.references += [value for name, value in values.items() if name in ("src", "href", "srcset")]
        self.pictures_without_words += tag == "img" and not values.get("alt")

    def handle_data(self, data: str) -> None:
        self.words += data

    @property
    def plots(self) -> list[str]:
        """The SVG pictures."""
        prefix = "data:image/svg+xml;base64,"
        return [
            base64.b64decode(reference.removeprefix(prefix)).decode()
            for reference in self.references
            if reference.startswith(prefix)
        ]
