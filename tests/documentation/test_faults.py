"""Every test that the page of faults names exists."""

import re

from tests.conftest import REPOSITORY
from tests.documentation.pages import Page

ROWS = re.compile(r"^\|(?!---| bad input| fault)(.*)\|$", re.MULTILINE)


def test_every_row_of_the_faults_names_a_test_that_exists() -> None:
    sources = "".join(path.read_text() for path in (REPOSITORY / "tests").rglob("test_*.py"))
    there = set(re.findall(r"def (test_\w+)\(", sources))
    rows = ROWS.findall(Page("docs/reference/faults.md").text.partition("## Fuzzing")[0])
    assert len(rows) >= 42
    for row in rows:
        named = re.findall(r"`(test_\w+)`", row)
        assert named, f"no test is named: {row}"
        assert set(named) <= there, set(named) - there
