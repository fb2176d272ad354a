"""The documentation's pages and their fenced blocks, as tests run them."""

from __future__ import annotations

import doctest
import re
import textwrap
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import REPOSITORY

HERE = "localhost:8000"
"""The address at which the service of a page's commands listens."""
TRAIN = re.compile(r"pushforward ((?:init|train) [^#\n]*)")
"""A command that trains, or writes a recipe; its arguments are those of `pushforward`."""
_FENCE = re.compile(r"^( *)```(\w+)[^\n]*\n(.*?)^\1```$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text, and the output shown under it, if an `output` block is."""

    language: str
    text: str
    output: str | None = None

    @property
    def commands(self) -> list[tuple[str, str]]:
        """Every `$ command` of a console, with the lines it continues on, and the output under it."""
        parts = re.split(r"^\$ ", self.text, flags=re.MULTILINE)[1:]
        halves = (re.match(r"((?:[^\n]*\\\n)*[^\n]*)\n(.*)", part, re.DOTALL) for part in parts)
        return [(half[1], half[2]) for half in halves if half is not None]

    @property
    def training_lines(self) -> list[list[str]]:
        """The arguments of each line that trains or writes a recipe, without its comment."""
        lines = self.text.splitlines() if self.language == "sh" else [command for command, _ in self.commands]
        return [found[1].split() for line in lines if (found := TRAIN.match(line))]


@dataclass(frozen=True)
class Page:
    """A page, named by its path in the repository."""

    name: str

    @property
    def path(self) -> Path:
        return REPOSITORY / self.name

    @property
    def text(self) -> str:
        return self.path.read_text(encoding="utf-8")

    @property
    def blocks(self) -> list[Block]:
        """Its blocks in order; an `output` block belongs to the one before it."""
        blocks: list[Block] = []
        for indent, language, text in _FENCE.findall(self.text):
            if language == "output":
                blocks[-1] = Block(blocks[-1].language, blocks[-1].text, textwrap.dedent(text))
            else:
                blocks.append(Block(language, textwrap.dedent(text) if indent else text))
        return blocks

    @property
    def runs(self) -> bool:
        """True if it has commands or Python that run against a service."""
        return any(block.language in ("console", "python", "py") for block in self.blocks)

    @property
    def exports(self) -> bool:
        """True if it has Python that exports networks of torch."""
        return any("publish_vae(" in block.text for block in self.blocks if block.language == "py")

    @property
    def trains(self) -> bool:
        """True if readers are to run its training lines: evidence is not trained again."""
        to_do = self.name == "README.md" or self.name.startswith(("docs/tutorials/", "docs/how-to/"))
        return to_do and any(block.training_lines for block in self.blocks)


_NAMES = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "models/README.md"]
PAGES = [
    Page(name)
    for name in [
        *_NAMES,
        *sorted(str(path.relative_to(REPOSITORY)) for path in REPOSITORY.glob("docs/**/*.md")),
    ]
]


def matches(shown: str, got: str) -> bool:
    """Return True if an output is the one that is shown, in which `...` stands for anything."""
    got = got.rstrip("\n") + "\n" if got else ""
    return doctest.OutputChecker().check_output(shown, got, doctest.ELLIPSIS)
