"""Spaces behind the separators of a table in text."""

import io
from collections.abc import Collection

import pytest

from service.media.tables.dialect import find_dialect
from service.media.tables.sources import table_of


def read(text: str, wanted: Collection[str] = ()) -> dict[str, list[str]]:
    table = table_of(lambda: io.BytesIO(text.encode()), ".csv", wanted=wanted)
    return {name: list(values) for block in table.blocks() for name, values in block.items()}


def test_a_space_behind_every_separator_belongs_to_no_value() -> None:
    assert read('a, b, c\n1, x, "y; z"\n2, , "say ""no"""\n') == {
        "a": ["1", "2"],
        "b": ["x", ""],
        "c": ["y; z", 'say "no"'],
    }
    assert read("a; b\n1,5; x\n") == {"a": ["1,5"], "b": ["x"]}
    assert read("a, b,\n1, x,\n") == {"a": ["1"], "b": ["x"], "": [""]}
    assert str(find_dialect("a, b\n1, 2\n")) == "values separated by commas and spaces, decimal points"


@pytest.mark.parametrize("text", ["a,b\n1, x\n", "a, b\n1,x\n", 'a,b\n"1, 2",x\n', "a\tb\n1\t x\n"])
def test_spaces_that_are_behind_some_separators_alone_stay(text: str) -> None:
    assert not find_dialect(text).skips_spaces


def test_names_with_a_space_that_a_model_knows_are_found() -> None:
    """Models of before spaces were skipped have such columns."""
    assert list(read("a, b\n1, x\n", wanted=["a", " b"])) == ["a", " b"]
    assert list(read("a, b\n1, x\n", wanted=["a", "b"])) == ["a", "b"]
