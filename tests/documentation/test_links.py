"""The links of every page lead somewhere, to the heading that they name."""

import re
import unicodedata
from functools import cache
from pathlib import Path

import pytest

from docs.hooks.reference import with_tables
from tests.documentation.pages import PAGES, Page

LINK = re.compile(r"\]\((?!https?:)([^)\s#]*)(?:#([^)\s]*))?\)|(?:src|href)=\"(?!https?:)([^\"#]+)\"")
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


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Page) -> None:
    for target, anchor, source in LINK.findall(FENCE.sub("", page.text)):
        path = page.path.parent.joinpath(target or source) if target or source else page.path
        assert path.exists(), f"{page.name} leads to {target or source}"
        if anchor and path.suffix == ".md":
            assert anchor in anchors(path), f"{page.name} leads to {target}#{anchor}"
