"""Columns as exports have them: what `init` makes of them, and that its recipe then loads."""

from pathlib import Path
from typing import Any

import numpy as np

from tests.training.data.own_data import write_csv
from training.data.draft import draft_recipe
from training.data.inspection import Finding, inspect

ROWS = 60
RANDOM = np.random.default_rng(11)


def found(path: Path) -> dict[str, Finding]:
    """The findings of `init` by their subject; its recipe is loaded as training does it."""
    inspection = inspect(path)
    _, findings = draft_recipe(inspection, inspection.load())
    return {finding.subject.strip(): finding for finding in findings}


def with_column(path: Path, values: list[Any]) -> Path:
    """A table of one plain column of numbers, and these values as `odd`."""
    return write_csv(path, {"plain": RANDOM.random(len(values)).tolist(), "odd": values})


def test_infinities_among_numbers_are_called_missing(tmp_path: Path) -> None:
    numbers: list[Any] = RANDOM.random(ROWS).tolist()
    odd = found(with_column(tmp_path / "t.csv", ["inf", "-Infinity", *numbers[2:]]))["odd"]
    assert "2 of 60 are missing (as inf, -inf)" in odd.seen


def test_a_column_with_one_value_where_it_has_one_is_told_so(tmp_path: Path) -> None:
    text = found(with_column(tmp_path / "t.csv", ["yes", "", ""] * (ROWS // 3)))["odd"]
    assert (text.seen, text.settled) == ("'yes' in every one of the 20 rows that have it", "left out")
    number = found(with_column(tmp_path / "t.csv", [3.5, "", ""] * (ROWS // 3)))["odd"]
    assert number.seen == "3.5 in every row that has it"
