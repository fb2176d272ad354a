from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.pushforward.command.inputs import PICTURES, TABLE
from tests.pushforward.command.running import Run, make_run


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]) -> Run:
    return make_run(monkeypatch, capfdbinary)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: a table, pictures, and latents."""
    monkeypatch.chdir(tmp_path)
    Path("table.csv").write_text(TABLE)
    np.save("latents.npy", np.linspace(-1, 1, 30).reshape(3, 10))
    np.save("pixels.npy", PICTURES)
    Path("pictures").mkdir()
    for number, pixels in enumerate(PICTURES):
        Image.fromarray(pixels).save(f"pictures/{number}.png")
    return tmp_path
