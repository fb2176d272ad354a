"""The README's commands, run as they stand against a real server, give the output that stands there."""

import doctest
import io
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import REPOSITORY
from tests.serving import running_service

README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
CONSOLES = re.findall(r"^```console\n(.*?)^```$", README, flags=re.DOTALL | re.MULTILINE)


PYTHON = re.findall(r"^```python\n(.*?)^```$", README, flags=re.DOTALL | re.MULTILINE)


def commands() -> list[tuple[str, str]]:
    """Every `$ command` of the README's consoles with the output under it."""
    found = []
    for console in CONSOLES:
        for part in re.split(r"^\$ ", console, flags=re.MULTILINE)[1:]:
            command, _, output = part.partition("\n")
            found.append((command, output))
    return found


def test_the_curl_lines_of_the_readme_do_what_it_says(tmp_path: Path) -> None:
    assert len(commands()) >= 9
    (table,) = (block for block in PYTHON if "breast-cancer.csv" in block)
    subprocess.run([sys.executable, "-c", table], cwd=tmp_path, check=True)
    with running_service(REPOSITORY / "models") as service:
        for command, expected in commands():
            real = command.replace("localhost:8000", service.url.removeprefix("http://"))
            result = subprocess.run(
                real, shell=True, cwd=tmp_path, capture_output=True, text=True, check=True
            )
            got = result.stdout.rstrip("\n") + "\n" if result.stdout else ""
            same = doctest.OutputChecker().check_output(expected, got, doctest.ELLIPSIS)
            assert same, f"{command}\nwanted: {expected}\ngot: {got}"
    sizes = {path.name: Image.open(io.BytesIO(path.read_bytes())).size for path in tmp_path.glob("*.png")}
    assert sizes == {
        "grid.png": (242, 242),
        "path.png": (302, 32),
        "garment.png": (28, 28),
        "again.png": (28, 28),
        "heat.png": (28, 28),
        "ring.png": (512, 512),
    }
    assert np.load(tmp_path / "samples.npy").shape == (100_000, 1, 8, 8)


@pytest.mark.parametrize(
    "page", ["README.md", "ARCHITECTURE.md", "models/README.md", "docs/open-inference.md"]
)
def test_links_to_files_lead_somewhere(page: str) -> None:
    text = (REPOSITORY / page).read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", text):
        assert (REPOSITORY / page).parent.joinpath(target).exists(), target


def test_the_pictures_in_the_readme_are_the_services_own_answers() -> None:
    with running_service(REPOSITORY / "models") as service:
        for picture in (REPOSITORY / "docs").glob("*-[vg]a[en].png"):
            count = "" if picture.stem in ("ring-gan", "grid-gan") else "&count=64"
            response = service.client.get(
                f"/v1/models/{picture.stem}/sample?seed=7{count}", headers={"accept": "image/png"}
            )
            shown, answered = (
                np.asarray(Image.open(io.BytesIO(content))).astype(int)
                for content in (picture.read_bytes(), response.content)
            )
            assert np.abs(shown - answered).max() <= 1


def test_the_standard_clients_lines_draw_the_samples_they_say() -> None:
    (lines,) = (block for block in PYTHON if "tritonclient" in block)
    with running_service(REPOSITORY / "models") as service:
        script = lines.replace("localhost:8000", service.url.removeprefix("http://"))
        said = re.search(r"# (\(.*\))", lines)
        assert said is not None
        result = subprocess.run(
            [sys.executable, "-c", f"{script}\nprint(samples.shape)"],
            capture_output=True,
            text=True,
            check=True,
        )
        assert result.stdout.strip() == said[1]
