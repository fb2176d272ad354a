"""The commands and the Python of every page, run as they stand, give the output that stands there."""

import contextlib
import io
import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.conftest import REPOSITORY
from tests.documentation.pages import HERE, PAGES, Page, matches
from tests.serving import RunningService, running_service
from training.recipe import Recipe

ENVIRONMENT = os.environ | {
    "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    "PYTHONPATH": str(REPOSITORY),
}
SESSION = """
import contextlib, io, json, sys
names = {"__name__": "__main__"}
for line in sys.stdin:
    with contextlib.redirect_stdout(io.StringIO()) as shown:
        exec(json.loads(line), names)
    print(json.dumps(shown.getvalue()), flush=True)
"""
README_PICTURES = {
    "digits.png": (466, 466),
    "grid.png": (242, 242),
    "path.png": (302, 32),
    "garment.png": (28, 28),
    "again.png": (28, 28),
}


@pytest.fixture(scope="module")
def service() -> Iterator[RunningService]:
    with running_service(REPOSITORY / "models") as running:
        yield running


class Python:
    """One interpreter for all Python blocks of a page, which share their names as in a session."""

    def __init__(self, folder: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", SESSION],
            cwd=folder,
            env=ENVIRONMENT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, code: str) -> str:
        """Return the text that the code prints."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(code) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, f"{code}\n{self._process.communicate()[1]}"
        shown: str = json.loads(line)
        return shown

    def close(self) -> None:
        self._process.communicate()


def run_command(command: str, folder: Path, url: str) -> str:
    environment = ENVIRONMENT | {"PUSHFORWARD_URL": url}
    result = subprocess.run(
        command, shell=True, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, f"{command}\n{result.stderr}"
    return result.stdout


@pytest.mark.timeout(600)  # some pages publish several models
@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, id=page.name, marks=[] if page.name == "README.md" else pytest.mark.documentation)
        for page in PAGES
        if page.runs
    ],
)
def test_a_page_shows_what_its_commands_print(page: Page, service: RunningService, tmp_path: Path) -> None:
    models = tmp_path / "models"  # a folder of its own, since pages publish
    models.mkdir()
    for model in (REPOSITORY / "models").iterdir():
        (models / model.name).symlink_to(model)
    with contextlib.closing(Python(tmp_path)) as python:
        for shown in page.blocks:
            block = replace(shown, text=shown.text.replace(HERE, service.url.removeprefix("http://")))
            if block.language in ("python", "py"):
                printed = python.run(block.text)
                assert block.output is None or matches(block.output, printed), f"{shown.text}\ngot: {printed}"
            for command, output in block.commands if block.language == "console" else ():
                printed = run_command(command, tmp_path, service.url)
                assert matches(output, printed), f"{command}\nwanted: {output}\ngot: {printed}"
    pictures = {path.name: Image.open(io.BytesIO(path.read_bytes())) for path in tmp_path.glob("*.png")}
    for picture in pictures.values():
        picture.verify()
    for path in tmp_path.glob("*.npy"):
        assert np.load(path).size > 0
    if page.name == "README.md":
        assert {name: picture.size for name, picture in pictures.items()} == README_PICTURES


def test_the_readme_has_the_five_calls_and_fits_its_length() -> None:
    readme = next(page for page in PAGES if page.name == "README.md")
    called = " ".join(command for block in readme.blocks for command, _ in block.commands)
    for operation in ("sample", "interpolate", "reconstruct", "score", "discriminate"):
        assert f"/{operation}" in called
    assert len(readme.text.splitlines()) <= 180


@pytest.mark.parametrize(
    "page",
    [pytest.param(page, id=page.name) for page in PAGES if any(b.language == "toml" for b in page.blocks)],
)
def test_the_recipes_of_a_page_are_recipes(page: Page) -> None:
    for block in page.blocks:
        if block.language != "toml":
            continue
        shown = tomllib.loads(block.text)
        place = block.text.splitlines()[0].removeprefix("# ")
        if place.startswith("in "):
            shipped = tomllib.loads((REPOSITORY / place.removeprefix("in ")).read_text())
            assert is_part(shown, shipped), f"{place} differs from what {page.name} shows"
        elif "name" in shown:
            Recipe.model_validate(shown)


def is_part(shown: dict[str, Any], shipped: dict[str, Any]) -> bool:
    """Return True if every key that is shown is shipped so; tables may have more keys."""
    return all(
        is_part(value, shipped.get(key, {})) if isinstance(value, dict) else shipped.get(key) == value
        for key, value in shown.items()
    )


def test_the_pictures_in_the_readme_are_the_services_own_answers(service: RunningService) -> None:
    for picture in (REPOSITORY / "docs").glob("*-[vg]a[en].png"):
        others = {"ring-gan": "", "grid-gan": "", "digits-gan": "&count=64&label=3"}
        asked = others.get(picture.stem, "&count=64")
        response = service.client.get(
            f"/v1/models/{picture.stem}/sample?seed=7{asked}", headers={"accept": "image/png"}
        )
        shown, answered = (
            np.asarray(Image.open(io.BytesIO(content))).astype(int)
            for content in (picture.read_bytes(), response.content)
        )
        assert np.abs(shown - answered).max() <= 1
