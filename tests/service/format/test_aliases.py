import json
import subprocess
import sys
from pathlib import Path

import pytest

from service.errors import InvalidAliases
from service.format.aliases import ALIASES_FILE, change_alias, read_aliases, write_aliases
from tests.disk import followed
from tests.toy import publish_toy


@pytest.fixture
def model(tmp_path: Path) -> Path:
    publish_toy(tmp_path)
    return publish_toy(tmp_path).parent


def test_aliases_are_read_as_they_were_written_and_leave_nothing_else_behind(model: Path) -> None:
    before = {path.name for path in model.iterdir()}
    assert read_aliases(model) == {}
    write_aliases(model, {"champion": 1, "challenger": 2})
    assert read_aliases(model) == {"champion": 1, "challenger": 2}
    assert {path.name for path in model.iterdir()} == before | {ALIASES_FILE}


def test_aliases_are_on_the_disk_before_they_take_the_place_of_others(model: Path) -> None:
    with followed() as disk:
        write_aliases(model, {"champion": 1})
    assert disk.before(ALIASES_FILE) == {ALIASES_FILE}
    assert disk.after(ALIASES_FILE) == {"toy-vae"}


@pytest.mark.parametrize(
    "content", ["", "[]", '{"champion": "2"}', '{"champion": 0}', '{"Champion": 1}', '{"1": 1}', '{"a/b": 1}']
)
def test_a_file_that_is_no_map_of_names_to_versions_is_refused_by_its_name(model: Path, content: str) -> None:
    (model / ALIASES_FILE).write_text(content)
    with pytest.raises(InvalidAliases, match=rf"^toy-vae/{ALIASES_FILE}: "):
        read_aliases(model)


def test_an_alias_names_a_version_that_is_there_and_can_be_taken_away(model: Path) -> None:
    assert change_alias(model, "champion", 2) == {"champion": 2}
    for alias, version, complaint in (
        ("champion", 3, "toy-vae has no version 3; it has: "),
        ("challenger", None, "no alias challenger; it has: champion"),
        ("Not this", 1, "lower-case"),
    ):
        with pytest.raises(InvalidAliases, match=complaint):
            change_alias(model, alias, version)
    assert read_aliases(model) == {"champion": 2}
    assert change_alias(model, "champion", None) == {}


def alias(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from service.format.aliases import main; main()", *arguments]
    return subprocess.run(command, capture_output=True, text=True)


def test_the_command_sets_shows_and_removes_aliases_and_says_what_is_wrong(model: Path) -> None:
    models = ("--models", str(model.parent))
    assert alias("toy-vae", "champion", "1", *models).stdout == "champion 1\n"
    assert json.loads((model / ALIASES_FILE).read_text()) == {"champion": 1}
    assert alias("toy-vae", *models).stdout == "champion 1\n"
    for wrong in (("toy-vae", "champion", "9"), ("nothing",), ("toy-vae", "champion")):
        refused = alias(*wrong, *models)
        assert refused.returncode == 2
        assert "pushforward-alias: " in refused.stderr
    assert alias("toy-vae", "champion", "--remove", *models).stdout == ""
