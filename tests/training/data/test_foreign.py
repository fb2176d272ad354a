"""Sets of pictures as others keep them are refused as what they are, with what to give in their place."""

from __future__ import annotations

import gzip
import io
import pickle
import struct
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from training.data.dataset import DataError
from training.data.folder import load_folder
from training.data.foreign import foreign_file
from training.data.inspection import inspect
from training.data.options import DataOptions

RANDOM = np.random.default_rng(0)


def pictures(folder: Path, count: int = 24, most: int = 255, ending: str = "png") -> Path:
    folder.mkdir(parents=True)
    for number in range(count):
        pixels = RANDOM.integers(0, most + 1, (12, 12), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:02}.{ending}")
    return folder


def zipped(*names: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in names:
            archive.writestr(name, b"x")
    return file.getvalue()


def tarred() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        archive.addfile(tarfile.TarInfo("a.png"))
    return file.getvalue()


IDX = struct.pack(">IIII", 2051, 2, 4, 5) + bytes(40)
FILES = {
    "a.h5": (b"\x89HDF\r\n\x1a\n" + bytes(64), "it is a file of HDF5; save its array"),
    "a.mat": (b"MATLAB 5.0 MAT-file" + bytes(64), "it is a file of MATLAB; save its array"),
    "data_batch_1": (pickle.dumps({"data": 1}), "it holds pickled objects of Python"),
    "a.pt": (zipped("a/data.pkl", "a/data/0"), "it is a file of torch"),
    "train-images-idx3-ubyte": (IDX, "[2, 4, 5]; save its array"),
    "train-images-idx3-ubyte.gz": (gzip.compress(IDX), "offset=16).reshape(-1, 4, 5))"),
    "a.zip": (zipped("a/1.png", "a/2.png"), "it is an archive of pictures; unpack it"),
    "a.tar.gz": (tarred(), "it is an archive; unpack it"),
    "one.png": (b"\x89PNG", "it is one picture; give the folder of pictures"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_another_format_is_told_with_what_to_do(name: str, tmp_path: Path) -> None:
    content, words = FILES[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError) as caught:
        inspect(tmp_path / name)
    assert words in str(caught.value)


def test_what_idx_is_told_to_become_is_its_pixels(tmp_path: Path) -> None:
    pixels = RANDOM.integers(0, 256, (2, 4, 5), np.uint8)
    path = tmp_path / "images.gz"
    path.write_bytes(gzip.compress(IDX[:16] + pixels.tobytes()))
    assert "offset=16).reshape(-1, 4, 5)" in str(foreign_file(path))
    with gzip.open(path) as file:
        read = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 4, 5)
    assert (read == pixels).all()


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.csv.zip"])
def test_a_table_is_no_foreign_file(name: str, tmp_path: Path) -> None:
    content = {"csv": b"a,b\n1,2\n", "gz": gzip.compress(b"a,b\n1,2\n"), "zip": zipped("a.csv")}
    (tmp_path / name).write_bytes(content[name.rpartition(".")[2]])
    assert foreign_file(tmp_path / name) is None


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("train", "test"), "its sub-folders test, train are parts of a set, and no classes; give {0}/train"),
        (("Train", "Val"), "are parts of a set"),
        (("images", "masks"), "are pictures and their masks, and no classes; give {0}/images as the path"),
    ],
)
def test_parts_and_masks_are_no_classes(names: tuple[str, ...], words: str, tmp_path: Path) -> None:
    for name in names:
        pictures(tmp_path / "set" / name)
    for act in (inspect, lambda path: load_folder(DataOptions(dataset="images", path=path), tmp_path)):
        with pytest.raises(DataError) as caught:
            act(tmp_path / "set")
        assert words.format(tmp_path / "set") in str(caught.value)


def test_classes_that_are_called_alike_stay_classes(tmp_path: Path) -> None:
    for name in ("test", "cat", "labels"):
        pictures(tmp_path / "set" / name)
    assert inspect(tmp_path / "set").rows == 72


def test_masks_of_zeros_and_ones_are_no_black_pictures(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "masks", most=1)
    for act in (inspect, lambda path: load_folder(DataOptions(dataset="images", path=path), tmp_path)):
        with pytest.raises(DataError, match="no pixel is above 1 of 255"):
            act(folder)


def test_a_folder_of_other_files_is_not_called_empty(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"it holds no pictures \(.*\), but 00.gif, .* and 21 more"):
        inspect(pictures(tmp_path / "gifs", ending="gif"))
    nested = pictures(tmp_path / "set" / "inner" / "pictures").parent
    with pytest.raises(DataError) as caught:
        inspect(nested.parent)
    assert f"give {nested} as the path" in str(caught.value)
    assert "is empty" not in str(caught.value)
