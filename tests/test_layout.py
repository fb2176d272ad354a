"""The layout of the packages: few entries at the top, and one class for one name."""

import ast
from collections import defaultdict

import pytest

from tests.conftest import REPOSITORY

PACKAGES = ("pushforward", "service", "training")


@pytest.mark.parametrize(("package", "most"), [("service", 13), ("training", 14)])
def test_a_package_has_few_entries_at_its_top(package: str, most: int) -> None:
    files = (REPOSITORY / package).rglob("*.*")
    entries = {path.relative_to(REPOSITORY / package).parts[0] for path in files if path.suffix != ".pyc"}
    entries.remove("__init__.py")
    assert len(entries) <= most, sorted(entries)


def test_a_class_name_is_defined_once() -> None:
    places = defaultdict(list)
    for package in PACKAGES:
        for path in sorted((REPOSITORY / package).rglob("*.py")):
            if not path.name.endswith("_pb2.py"):
                for node in ast.walk(ast.parse(path.read_text())):
                    if isinstance(node, ast.ClassDef):
                        places[node.name].append(f"{path.relative_to(REPOSITORY)}:{node.lineno}")
    assert {name: where for name, where in places.items() if len(where) > 1} == {}
