"""Sets of pictures as others keep them are refused as what they are, with what to give in their place."""

from __future__ import annotations

import gzip
import io
import pickle
import struct
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.training.data.own_data import zipped
from training.data.arrays import load_arrays
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


PIXELS = RANDOM.integers(0, 256, (40, 6, 7, 3), np.uint8)
CLASSES = np.arange(40) % 4


@pytest.mark.parametrize(
    ("arrays", "shape", "classes"),
    [
        ({"arr_0": PIXELS}, (3, 6, 7), 0),
        ({"images": PIXELS, "labels": CLASSES[:, None]}, (3, 6, 7), 4),
        ({"x_train": PIXELS, "y_train": CLASSES, "x_test": PIXELS[:9], "y_test": CLASSES[:9]}, (3, 6, 7), 4),
        ({"data": PIXELS[..., 0], "target": CLASSES}, (1, 6, 7), 4),
        ({"X": PIXELS.reshape(40, -1).astype("f4"), "y": CLASSES}, (126,), 4),
    ],
)
def test_arrays_of_other_names_are_told_the_line_that_saves_them_so(
    arrays: dict[str, np.ndarray],
    shape: tuple[int, ...],
    classes: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    np.savez("own.npz", **arrays)  # type: ignore[arg-type]
    with pytest.raises(DataError) as caught:
        inspect(tmp_path / "own.npz")
    names: dict[str, Any] = {}
    exec(str(caught.value).partition("Save them so: ")[2], names)
    names["data"].close()
    read = load_arrays(DataOptions(dataset="arrays", path=tmp_path / "items.npz"), tmp_path)
    assert read.item_shape == shape
    assert len(read.class_names) == classes
    with pytest.raises(DataError, match="Save them so: import numpy"):
        load_arrays(DataOptions(dataset="arrays", path=tmp_path / "own.npz"), tmp_path)


def test_arrays_of_which_none_may_be_items_are_told_what_is_wanted(tmp_path: Path) -> None:
    np.savez(tmp_path / "own.npz", names=np.array(["a", "b"]), seed=np.int64(3))
    with pytest.raises(DataError, match=r"'names', 'seed', .*wanted `items` and perhaps `labels`$"):
        inspect(tmp_path / "own.npz")
