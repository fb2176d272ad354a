"""The page of the theory: one file, every section with its numbers, equal for equal runs."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

import training.experiments.theory
from tests.training.report.page import Page
from training.__main__ import app
from training.experiments.theory.optimum import optimum_section


@pytest.fixture
def quick_sections(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a section that trains nothing."""
    monkeypatch.setattr(training.experiments.theory, "SECTIONS", (optimum_section,))


@pytest.mark.usefixtures("quick_sections")
def test_the_page_is_one_file_that_asks_for_no_other_and_is_equal_every_time(tmp_path: Path) -> None:
    paths = [tmp_path / "new" / name for name in ("one.html", "two.html")]
    for path in paths:
        result = CliRunner().invoke(app, ["theory", "--output", str(path), "--quiet"])
        assert result.exit_code == 0, result.output
    assert paths[0].read_bytes() == paths[1].read_bytes()
    page = Page(paths[0])
    assert len(page.plots) == 2
    assert all(reference.startswith("data:image/") for reference in page.references)
    assert not {"script", "link", "iframe"} & set(page.tags)
    assert page.pictures_without_words == 0


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_whole_page_has_every_section(tmp_path: Path) -> None:
    path = tmp_path / "theory.html"
    assert CliRunner().invoke(app, ["theory", "--output", str(path)]).exit_code == 0
    page = Page(path)
    assert page.tags.count("section") == len(training.experiments.theory.SECTIONS) + 1
    assert len(page.plots) == 12
    assert not any("$" in plot for plot in page.plots), "a label is shown as the source of a formula"
    assert not {"nan", "inf"} & set(page.text.lower().split())
