"""The commit that a version names is that of the code that made it."""

import importlib.util
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from training.export import provenance


def commit_of(file: Path) -> Callable[[], str]:
    """The function `commit` of a copy of the module."""
    spec = importlib.util.spec_from_file_location("copy_of_provenance", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found: Callable[[], str] = module.commit
    return found


def test_the_commit_is_that_of_the_code_and_of_no_project_in_which_it_is_installed(tmp_path: Path) -> None:
    def git(*arguments: str) -> str:
        who = ("-c", "user.name=someone", "-c", "user.email=someone@example.org")
        done = subprocess.run(
            ["git", *who, *arguments], cwd=tmp_path, check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    file = tmp_path / "venv" / "training" / "export" / "provenance.py"
    file.parent.mkdir(parents=True)
    shutil.copyfile(provenance.__file__, file)
    commit = commit_of(file)
    git("init", "--quiet")
    git("commit", "--allow-empty", "--message", "another project's")
    assert commit() == "unknown"
    git("add", ".")
    git("commit", "--message", "the code's own")
    assert commit() == git("rev-parse", "HEAD")
    file.write_text("")
    assert commit() == git("rev-parse", "HEAD") + "-modified"
