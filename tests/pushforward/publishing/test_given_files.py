"""Items in files are read as training reads them: arrays of numpy, and folders of pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pushforward.publishing.items import read_items, read_labels

SHAPE = (3, 6, 5)
PIXELS = np.random.default_rng(0).integers(0, 256, (8, *SHAPE), np.uint8)


def pictures(folder: Path, pixels: np.ndarray = PIXELS) -> Path:
    folder.mkdir(parents=True)
    for number, each in enumerate(pixels):
        Image.fromarray(each.transpose(1, 2, 0)).save(folder / f"{number}.png")
    return folder


def test_arrays_and_a_folder_of_their_pictures_are_the_same_items(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", PIXELS)
    np.savez(tmp_path / "one.npz", arr_0=PIXELS)
    np.savez(tmp_path / "named.npz", labels=np.arange(8), items=PIXELS)
    pictures(tmp_path / "folder")
    for name in ("a.npy", "one.npz", "named.npz", "folder"):
        assert (read_items(tmp_path / name, SHAPE) == PIXELS).all()
    grey = read_items(tmp_path / "folder", (1, 6, 5))
    assert grey.shape == (8, 1, 6, 5)


def test_sub_folders_are_read_and_the_defects_of_mvtec_are_not(tmp_path: Path) -> None:
    pictures(tmp_path / "classes" / "a")
    pictures(tmp_path / "classes" / "b", 255 - PIXELS)
    both = np.concatenate([PIXELS, 255 - PIXELS])
    assert (read_items(tmp_path / "classes", SHAPE) == both).all()
    pictures(tmp_path / "mvtec" / "train" / "good")
    pictures(tmp_path / "mvtec" / "test" / "good")
    pictures(tmp_path / "mvtec" / "test" / "scratch")
    assert (read_items(tmp_path / "mvtec", SHAPE) == PIXELS).all()


def test_classes_beside_items_are_read(tmp_path: Path) -> None:
    for name in ("a", "b"):
        pictures(tmp_path / "classes" / name)
    np.savez(tmp_path / "named.npz", labels=np.arange(8), items=PIXELS)
    np.savez(tmp_path / "one.npz", PIXELS)
    np.savez(tmp_path / "objects.npz", items=PIXELS, labels=np.array([None] * 8, dtype=object))
    np.save(tmp_path / "a.npy", PIXELS)
    of_folders, of_file = read_labels(tmp_path / "classes"), read_labels(tmp_path / "named.npz")
    assert of_folders is not None
    assert of_folders.tolist() == ["a"] * 8 + ["b"] * 8
    assert of_file is not None
    assert of_file.tolist() == [*range(8)]
    for name in ("one.npz", "a.npy", "classes/a"):
        assert read_labels(tmp_path / name) is None
    with pytest.raises(ValueError, match="has `labels` that are no numbers or names"):
        read_labels(tmp_path / "objects.npz")


def test_what_is_no_set_of_items_is_told(tmp_path: Path) -> None:
    pictures(tmp_path / "folder")
    np.savez(tmp_path / "two.npz", a=PIXELS, b=PIXELS)
    np.save(tmp_path / "objects.npy", np.array([None, 1], dtype=object))
    (tmp_path / "text.npy").write_text("no array")
    for name, shape, words in (
        ("folder", (3, 5, 6), "it has not 5x6 pixels"),
        ("folder", (30,), "is a folder, of pictures at best; give the items as an .npy file"),
        ("two.npz", SHAPE, "has the arrays a, b; wanted one, or one called items"),
        ("objects.npy", SHAPE, "not an .npy file of numbers"),
        ("text.npy", SHAPE, "not an .npy file of numbers"),
        ("missing.npy", SHAPE, "is not there"),
    ):
        with pytest.raises(ValueError, match=words):
            read_items(tmp_path / name, shape)
