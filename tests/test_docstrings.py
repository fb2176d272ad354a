"""The form of docstrings: none begins as a relative clause or a fragment, without a subject."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

HEADLESS = re.compile(r"(As|Has|How|Of|That|What|Where|Whether|Which|Why)\b")
FILES = [
    path.relative_to(REPOSITORY)
    for package in ("pushforward", "service", "training", "tests")
    for path in sorted((REPOSITORY / package).rglob("*.py"))
    if not path.name.endswith("_pb2.py")
]


def docstrings(source: str) -> Iterator[tuple[int, str]]:
    """The line and text of every string that stands alone: of modules, classes, functions and attributes."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            text = node.value.value
            if isinstance(text, str):
                yield node.lineno, text


@pytest.mark.parametrize("path", FILES, ids=str)
def test_no_docstring_begins_without_a_subject(path: Path) -> None:
    found = docstrings((REPOSITORY / path).read_text())
    assert [f"{path}:{line}: {text[:60]}" for line, text in found if HEADLESS.match(text)] == []
