"""The training lines of the README, tutorials and how-to pages, run as they stand, make models."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from service.format.manifest import Manifest
from service.format.versions import read_manifest
from tests.conftest import REPOSITORY
from tests.documentation.pages import HERE, PAGES, Page
from training.data.loading import load_dataset
from training.data.options import DataOptions

pytestmark = [pytest.mark.documentation, pytest.mark.timeout(1200)]

SHIPPED = "fashion-vae"
"""A published model that pages may calibrate or look at."""


def run(folder: Path, *arguments: str) -> None:
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{arguments}\n{done.stderr}"


def follow(page: Page, folder: Path) -> None:
    """Do what a page says up to its last training line: make its files, write its recipes, train."""
    blocks = page.blocks
    last = max(place for place, block in enumerate(blocks) if block.training_lines)
    for block in blocks[: last + 1]:
        if block.language in ("python", "py") and HERE not in block.text:
            run(folder, "-c", block.text)
        elif block.language == "toml":
            name = block.text.splitlines()[0].removeprefix("# ")
            if name.endswith(".toml") and not name.startswith("in "):
                (folder / name).write_text(block.text)
        for arguments in block.training_lines:
            run(folder, "-m", "pushforward", *arguments)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The folders of all pages that train, each followed in a folder of its own."""
    garments = load_dataset(DataOptions(dataset="fashion-mnist"))
    folders = []
    for page in PAGES:
        if page.trains:
            folder = tmp_path_factory.mktemp(page.path.stem)
            (folder / "training").symlink_to(REPOSITORY / "training")
            shutil.copytree(REPOSITORY / "models" / SHIPPED, folder / "models" / SHIPPED)
            np.save(folder / "normals.npy", garments.items["test"][:1000])
            follow(page, folder)
            folders.append(folder)
    return folders


def manifests(folders: list[Path]) -> list[Manifest]:
    """Return the manifests of all versions that the pages published."""
    shipped = REPOSITORY / "models" / SHIPPED
    versions = (path.parent for folder in folders for path in folder.glob("models/*/*/manifest.json"))
    return [
        read_manifest(version)
        for version in versions
        if version.parent.name != SHIPPED or not (shipped / version.name).exists()
    ]


def test_every_page_that_trains_publishes(trained: list[Path]) -> None:
    assert all(manifests([folder]) for folder in trained)


def test_a_stranger_gets_a_model_of_a_table(trained: list[Path]) -> None:
    tables = [manifest for manifest in manifests(trained) if len(manifest.columns) == 30]
    assert tables
    for table in tables:
        assert table.metrics["flagged_outliers"].value > 0.6
        assert table.metrics["flagged_test"].value < 0.2


def test_a_stranger_gets_a_model_of_a_folder_of_pictures_and_its_report(trained: list[Path]) -> None:
    pictures = [manifest for manifest in manifests(trained) if manifest.name == "my-digits"]
    assert pictures
    for manifest in pictures:
        assert (manifest.support, manifest.item_shape) == ("eight_bit", (1, 8, 8))
    reports = [folder / "runs" / "my-digits" / "report.html" for folder in trained]
    assert any("bits per dimension" in report.read_text() for report in reports if report.exists())
