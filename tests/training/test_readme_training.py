"""The README's own-data section, run as it stands: its Python makes files, its commands make models."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

from service.format.versions import read_manifest
from tests.conftest import REPOSITORY
from training.data.loading import load_dataset
from training.data.options import DataOptions

SECTION = re.search(
    r"^### On your own data$(.*?)^### ", (REPOSITORY / "README.md").read_text(), re.DOTALL | re.MULTILINE
)


def blocks(language: str) -> list[str]:
    assert SECTION is not None
    return re.findall(rf"^```{language}\n(.*?)^```$", SECTION[1], re.DOTALL | re.MULTILINE)


def run(folder: Path, *arguments: str) -> None:
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_stranger_gets_models_of_a_table_and_of_a_folder_of_pictures(tmp_path: Path) -> None:
    (tmp_path / "training").symlink_to(REPOSITORY / "training")
    shutil.copytree(REPOSITORY / "models" / "fashion-vae", tmp_path / "models" / "fashion-vae")
    garments = load_dataset(DataOptions(dataset="fashion-mnist"))
    np.save(tmp_path / "normals.npy", garments.items["test"][:1000])
    for code in blocks("python"):
        run(tmp_path, "-c", code)
    for recipe in blocks("toml"):
        name = recipe.splitlines()[0].removeprefix("# ")
        if name.startswith("in "):
            shipped = tomllib.loads((REPOSITORY / name.removeprefix("in ")).read_text())["data"]
            shown = tomllib.loads(recipe)["data"]
            assert {key: shipped[key] for key in shown} == shown
        else:
            (tmp_path / name).write_text(recipe)
    for command in "".join(blocks("sh")).splitlines():
        program, *arguments = command.split("#")[0].split()
        assert program == ".venv/bin/pushforward-train"
        run(tmp_path, "-m", "training", *arguments)
    assert read_manifest(tmp_path / "models" / "fashion-vae" / "3").calibration is not None
    table = read_manifest(tmp_path / "models" / "breast-cancer-vae" / "1")
    assert len(table.columns) == 30
    assert table.metrics["flagged_outliers"].value > 0.7
    assert table.metrics["flagged_test"].value < 0.2
    pictures = read_manifest(tmp_path / "models" / "my-digits" / "1")
    assert (pictures.support, pictures.item_shape) == ("eight_bit", (1, 8, 8))
    report = (tmp_path / "runs" / "my-digits" / "report.html").read_text()
    assert "bits per dimension" in report
