"""The commands of the page on bulk work run as they stand there."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pushforward.command.bulk import commands
from tests.conftest import REPOSITORY
from tests.documentation.pages import Page
from tests.pushforward.bulk.work import table

PREFIX = "pushforward bulk "


@pytest.mark.bulk
def test_the_pages_commands_do_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "models").symlink_to(REPOSITORY / "models")
    monkeypatch.chdir(tmp_path)
    blocks = [block for block in Page("docs/how-to/bulk.md").blocks if block.language == "sh"]
    lines = [line for block in blocks for line in block.text.splitlines()]
    assert len(lines) == 6
    for line in lines:
        assert line.startswith(PREFIX)
        result = CliRunner().invoke(commands, shlex.split(line.removeprefix(PREFIX)))
        assert result.exit_code == 0, result.output
    assert table(Path("scores")).column_names == [
        "row", "corrected", "path", "surprise", "p_value", "anomaly",
    ]  # fmt: skip
    assert table(Path("shared")).num_rows == 6_000
    assert Path("shared/_manifest.json").exists()
