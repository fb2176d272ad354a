"""The cache of copies of large data: the least lately used make room, and nothing else does."""

import os
from pathlib import Path

import pytest

from training.data import cache

KIB = 2**10


def a_copy(parent: Path, name: str, used_at: int, kib: int = 10) -> Path:
    folder = parent / name
    folder.mkdir()
    (folder / "train.f4").write_bytes(bytes(kib * KIB))
    for path in (folder / "train.f4", folder):
        os.utime(path, (used_at, used_at))
    return folder


@pytest.mark.parametrize(("most_kib", "left"), [(40, "0123"), (39, "013"), (30, "013"), (29, "01"), (5, "0")])
def test_copies_not_used_for_longest_are_removed_until_the_others_fit(
    tmp_path: Path, most_kib: int, left: str
) -> None:
    used_at = {"0": 1, "1": 400, "2": 200, "3": 300}  # the copy 0 is used now
    copies = {name: a_copy(tmp_path, name * 24, seconds) for name, seconds in used_at.items()}
    cache.use(copies["0"], most_kib * KIB)
    assert "".join(name for name, folder in copies.items() if folder.exists()) == left


def test_halves_of_killed_processes_are_removed_and_files_of_others_are_not(tmp_path: Path) -> None:
    in_use, half = a_copy(tmp_path, "a" * 24, 1), a_copy(tmp_path, ".copying-x", 2)
    own = a_copy(tmp_path, "thesis", 3)
    (tmp_path / "table.parquet").touch()
    cache.use(in_use, 10 * KIB)
    assert in_use.exists()
    assert not half.exists()
    assert own.exists()
    assert (tmp_path / "table.parquet").exists()
