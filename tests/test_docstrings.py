"""The form of docstrings: none begins as a relative clause or a fragment, without a subject."""

import ast
import re
from collections.abc import Iterator

from tests.conftest import REPOSITORY

HEADLESS = re.compile(r"(As|Has|How|Of|That|What|Where|Whether|Which|Why)\b")
PACKAGES = ("pushforward", "service", "training", "tests")


def docstrings(source: str) -> Iterator[tuple[int, str]]:
    """The line and text of every string that stands alone: of modules, classes, functions and attributes."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            text = node.value.value
            if isinstance(text, str):
                yield node.lineno, text


def test_no_docstring_begins_without_a_subject() -> None:
    paths = [path for package in PACKAGES for path in sorted((REPOSITORY / package).rglob("*.py"))]
    headless = [
        f"{path.relative_to(REPOSITORY)}:{line}: {text[:60]}"
        for path in paths
        if not path.name.endswith("_pb2.py")
        for line, text in docstrings(path.read_text())
        if HEADLESS.match(text)
    ]
    assert headless == []
