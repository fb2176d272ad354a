"""A publication removes what those that were killed have left beside the versions of a model."""

from __future__ import annotations

import os
import time
from pathlib import Path

from training.export.staging import staged


def aged(folder: Path) -> Path:
    """A folder as a publication that was killed an hour ago left it."""
    folder.mkdir(parents=True)
    (folder / "weights.bin").write_bytes(b"0")
    os.utime(folder, (time.time() - 3600,) * 2)
    return folder


def test_a_publication_removes_what_killed_ones_have_left_and_nothing_of_those_at_work(
    tmp_path: Path,
) -> None:
    abandoned, other_model = (aged(tmp_path / name / ".partial-0123abcd") for name in ("toy", "other"))
    with staged(tmp_path, "toy") as first:
        os.utime(first, (time.time() - 3600,) * 2)
        with staged(tmp_path, "toy") as second:
            assert {*(tmp_path / "toy").iterdir()} == {first, second}
    assert not abandoned.exists()
    assert other_model.exists()
