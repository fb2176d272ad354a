"""The links of every page lead somewhere, to the heading that they name; so do the maps of the code."""

import re
import unicodedata
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from docs.hooks.reference import with_tables
from tests.conftest import REPOSITORY
from tests.documentation.pages import PAGES, Page
from tests.test_layout import PACKAGES

LINK = re.compile(r"\]\((?!https?:)([^)\s#]*)(?:#([^)\s]*))?\)|(?:src|href)=\"(?!https?:)([^\"#]+)\"")
PATH = re.compile(r"`([\w-]+/[a-z][\w./-]*|[\w-]+/)`")
"""A file or a folder in backticks."""
FENCE = re.compile(r"^( *)```.*?^\1```$", re.DOTALL | re.MULTILINE)


def slugs(heading: str) -> set[str]:
    """The anchors of a heading, on GitHub and on the site."""
    explicit = re.search(r"\{ *#([\w-]+) *\}$", heading)
    if explicit:
        return {explicit[1]}
    text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").strip().lower()
    github = re.sub(r"[^\w\- ]", "", text).replace(" ", "-")
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return {github, re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", plain).strip())}


@cache
def anchors(path: Path) -> set[str]:
    text = FENCE.sub("", with_tables(path.read_text(encoding="utf-8")))
    found = set(re.findall(r"<a (?:id|name)=\"([^\"]+)\"", text))
    return found.union(*(slugs(heading) for heading in re.findall(r"^#+ +(.+)$", text, re.MULTILINE)))


@pytest.mark.parametrize("name", ["ARCHITECTURE.md", "CONTRIBUTING.md"])
def test_the_files_and_folders_that_a_map_of_the_code_names_exist(name: str) -> None:
    text = Page(name).text
    roots = (REPOSITORY, REPOSITORY / "service", REPOSITORY / "training")
    assert [path for path in PATH.findall(text) if not any((root / path).exists() for root in roots)] == []
    modules = {path.name for package in (*PACKAGES, "tests") for path in (REPOSITORY / package).rglob("*.py")}
    assert set(re.findall(r"\w+\.py\b", text)) <= modules


def broken_links(page: Page) -> Iterator[str]:
    for target, anchor, source in LINK.findall(FENCE.sub("", page.text)):
        path = page.path.parent.joinpath(target or source) if target or source else page.path
        if not path.exists():
            yield f"{page.name} leads to {target or source}"
        elif anchor and path.suffix == ".md" and anchor not in anchors(path):
            yield f"{page.name} leads to {target}#{anchor}"


def test_links_lead_somewhere() -> None:
    assert [broken for page in PAGES for broken in broken_links(page)] == []
