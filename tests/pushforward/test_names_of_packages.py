"""A module of the user with the name of one of our packages is named, rather than imported in its place."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY


def error_of(folder: Path, code: str) -> str:
    """The last line that Python writes to standard error when it runs the code of a script in the folder."""
    (folder / "script.py").write_text(code)
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        [sys.executable, folder / "script.py"], env=environment, capture_output=True, text=True, check=False
    )
    return (done.stderr.splitlines() or [""])[-1]


@pytest.mark.parametrize("module", ["service.py", "service/__init__.py"])
def test_a_module_called_service_is_named(tmp_path: Path, module: str) -> None:
    (tmp_path / module).parent.mkdir(exist_ok=True)
    (tmp_path / module).touch()
    said = error_of(tmp_path, "from pushforward import Client")
    assert said.startswith(f"ImportError: `import service` finds {tmp_path / module}, and not {REPOSITORY}")


def test_a_package_called_training_is_named_by_those_who_need_ours(tmp_path: Path) -> None:
    (tmp_path / "training.py").touch()
    assert error_of(tmp_path, "from pushforward import Client, load") == ""
    said = error_of(tmp_path, "from pushforward import publish_vae")
    assert said.startswith(f"ImportError: `import training` finds {tmp_path / 'training.py'}, and not ")


def test_a_folder_without_modules_does_no_harm(tmp_path: Path) -> None:
    (tmp_path / "service").mkdir()
    (tmp_path / "training").mkdir()
    assert error_of(tmp_path, "from pushforward import Client, load, publish_vae") == ""
