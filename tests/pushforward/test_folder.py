"""The version of a models folder that a name, a number or an alias stands for."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pushforward.folder import model_folder, version_at, version_folder
from service.errors import UnknownModel, UnknownVersion
from tests.conftest import REPOSITORY


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model with the versions 2, 9 and 10."""
    for version in ("2", "9", "10"):
        (tmp_path / version).mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("aliases", "wanted", "number"),
    [
        ("{}", None, "10"),
        ('{"champion": 9}', None, "9"),
        ('{"champion": 7}', None, "10"),
        ('{"old": 2}', "old", "2"),
        ('{"champion": 9}', 2, "2"),
    ],
)
def test_a_version_is_the_named_one_or_else_the_champion_that_is_there_or_else_the_newest(
    model: Path, aliases: str, wanted: int | str | None, number: str
) -> None:
    (model / "aliases.json").write_text(aliases)
    assert version_folder(model, wanted).name == number


def test_an_alias_of_a_version_that_is_gone_is_an_error_when_it_is_named(model: Path) -> None:
    (model / "aliases.json").write_text('{"old": 1}')
    with pytest.raises(UnknownVersion, match="it has: 10, 9, 2, old"):
        version_folder(model, "old")


def test_the_folder_of_one_model_in_the_place_of_that_of_models_is_named(model: Path) -> None:
    with pytest.raises(UnknownModel, match=f"{model} is the folder of one model, and {model.parent} that"):
        model_folder(model, model.name)


def test_the_folder_of_a_version_is_refused_beside_a_version(few_models: Path) -> None:
    folder = few_models / "toy-vae" / "1"
    assert version_at(folder) == folder
    with pytest.raises(UnknownVersion, match=f"leave `version` out, or give {folder.parent}"):
        version_at(folder, 1)


def unprivileged(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.unprivileged", "pushforward", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY)


def test_a_folder_that_may_not_be_written_is_told_by_the_file_that_was_asked_for(
    few_models: Path, tmp_path: Path
) -> None:
    tmp_path.chmod(0o500)
    file = tmp_path / "samples.npy"
    done = unprivileged("sample", "toy-vae", "--local", str(few_models), "--out", str(file))
    assert done.returncode == 2
    assert f"error: {file}: Permission denied" in done.stderr


def test_aliases_that_may_not_be_written_are_told_by_their_own_file(few_models: Path, tmp_path: Path) -> None:
    model = shutil.copytree(few_models / "toy-vae", tmp_path / "toy-vae")
    model.chmod(0o500)
    done = unprivileged("alias", "toy-vae", "champion", "1", "--models", str(tmp_path))
    assert done.returncode == 2
    assert done.stderr == f"error: {model / 'aliases.json'}: Permission denied\n"


def test_a_folder_that_may_not_be_listed_is_no_model(few_models: Path, tmp_path: Path) -> None:
    (tmp_path / "toy-vae").symlink_to(few_models / "toy-vae")
    (tmp_path / "lost+found").mkdir(mode=0)
    done = unprivileged("models", "--local", str(tmp_path), "--as", "json")
    assert done.returncode == 0, done.stderr
    assert [entry["name"] for entry in json.loads(done.stdout)["models"]] == ["toy-vae"]
