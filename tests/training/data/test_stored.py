"""Pictures larger than memory: kept as bytes in a file, and made items when a batch takes them."""

import os
import resource
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import training.data.pictures
from tests.conftest import REPOSITORY
from tests.training.data.own_data import random_pixels, same, write_pictures
from tests.training.peak import peak_resident_bytes
from training.data import SPLITS, DataError, Dataset, load_dataset
from training.data.options import DataOptions
from training.data.stored import StoredPictures

COUNT, SIDE = 300, 64
WIDE = 128  # so that the pictures are far more than the 60 MB by which the memory of torch varies


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return random_pixels(COUNT, SIDE, SIDE)


def load(path: Path, cache: Path, **options: Any) -> Dataset:
    kind = "images" if path.is_dir() else "arrays"
    return load_dataset(DataOptions.model_validate({"dataset": kind, "path": path, **options}), cache)


def in_memory(dataset: Dataset) -> Dataset:
    """The same dataset with its training split as an array."""
    train = dataset.items["train"]
    assert isinstance(train, StoredPictures)
    return replace(dataset, items={**dataset.items, "train": train[:]})


@pytest.mark.parametrize("form", ["uint8.npy", "floats.npy", "bool.npy", "grey", "grey-as-rgb", "colours"])
@pytest.mark.parametrize("binarise", ["none", "threshold"])
def test_stored_pictures_are_the_items_that_they_are_in_memory(
    tmp_path: Path, pixels: np.ndarray, form: str, binarise: str
) -> None:
    path = tmp_path / form
    match form:
        case "uint8.npy":
            np.save(path, pixels)
        case "floats.npy":
            np.save(path, (pixels[:, None] / 255).astype(np.float32))
        case "bool.npy":
            np.save(path, np.concatenate([pixels > 99] * 2, axis=1))
        case "grey":
            write_pictures(path, pixels)
        case "grey-as-rgb":
            write_pictures(path, np.repeat(pixels[..., None], 3, axis=3))
        case "colours":
            write_pictures(path, random_pixels(COUNT, SIDE, SIDE, 3))
    held = load(path, tmp_path / "cache", binarise=binarise)
    for _ in range(2):  # then from the copy that the first has made
        stored = load(path, tmp_path / "cache", binarise=binarise, memory_mib=1)
        assert isinstance(stored.items["train"], StoredPictures)
        assert stored.item_shape == held.item_shape
        assert stored.fingerprint == held.fingerprint
        assert same(in_memory(stored), held)
        assert stored.source == held.source
    assert len([*tmp_path.glob("cache/*")]) == (0 if path.is_file() else 1)


def test_a_copy_that_does_not_fit_on_the_disk_leaves_nothing_and_says_to_make_room(
    tmp_path: Path, pixels: np.ndarray
) -> None:
    folder, cache = write_pictures(tmp_path / "pictures", pixels), tmp_path / "cache"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(DataError, match=f"pictures cannot be copied to {cache}.*; make room"):
            load(folder, cache, memory_mib=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list(cache.iterdir())


def test_a_folder_of_copies_that_cannot_be_made_is_not_taken_for_damaged_data(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "pictures.npz", items=np.full((2000, 32, 32), 9, np.uint8))
    (tmp_path / "home").write_text("")
    with pytest.raises(
        DataError, match=r"cannot be unpacked into .*set HOME to a folder that can be written"
    ):
        load(tmp_path / "pictures.npz", tmp_path / "home" / "pictures", memory_mib=1)


def test_a_folder_whose_files_change_is_copied_anew(tmp_path: Path, pixels: np.ndarray) -> None:
    folder = write_pictures(tmp_path / "pictures", pixels)
    first = load(folder, tmp_path / "cache", memory_mib=1)
    write_pictures(tmp_path / "other", 255 - pixels[:1])
    (tmp_path / "other" / "000.png").replace(folder / "000.png")
    changed = load(folder, tmp_path / "cache", memory_mib=1)
    assert changed.fingerprint != first.fingerprint
    assert changed.fingerprint == load(folder, tmp_path / "cache").fingerprint


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("keys", ["items", "items and labels", "splits"])
def test_arrays_of_a_large_npz_are_those_of_a_small_one(
    tmp_path: Path, pixels: np.ndarray, save: Callable[..., None], keys: str
) -> None:
    arrays = {"items": pixels}
    if keys == "items and labels":
        arrays["labels"] = np.arange(COUNT) % 3
    if keys == "splits":
        arrays = dict(zip(SPLITS, np.split(pixels, [120, 180, 240]), strict=True))
    save(tmp_path / "p.npz", **arrays)
    held = load(tmp_path / "p.npz", tmp_path / "cache")
    for _ in range(2):  # then from the copy, if the first has made one
        stored = load(tmp_path / "p.npz", tmp_path / "cache", memory_mib=1)
        assert stored.fingerprint == held.fingerprint
        assert same(in_memory(stored), held)
    is_mapped_in_place = save is np.savez and keys != "splits"
    assert (tmp_path / "cache").exists() is not is_mapped_in_place
    assert not [*tmp_path.glob("cache/.copying-*")]


def test_a_large_npz_of_python_objects_or_splits_of_two_kinds_is_refused(tmp_path: Path) -> None:
    objects = np.array([{"text": "x" * 2**20}], object)
    parts: dict[str, Any] = dict.fromkeys(SPLITS, np.zeros((80, 64, 64), np.uint8))
    parts["test"] = parts["test"].astype(np.float32)
    np.savez(tmp_path / "objects.npz", items=objects, labels=np.zeros(2**20))
    np.savez(tmp_path / "kinds.npz", **parts)
    for name, words in (("objects", "never unpickled"), ("kinds", r"test float32 \[80, 64, 64\]")):
        with pytest.raises(DataError, match=words):
            load(tmp_path / f"{name}.npz", tmp_path / "cache", memory_mib=1)


def test_of_each_held_out_part_a_bounded_number_is_read_and_that_is_said(
    tmp_path: Path, pixels: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(tmp_path / "p.npy", pixels)
    np.savez(tmp_path / "p.npz", items=pixels)
    held = load(tmp_path / "p.npz", tmp_path)
    monkeypatch.setattr(training.data.pictures, "_FEWEST_HELD_OUT", 20)
    monkeypatch.setattr(training.data.pictures, "_HELD_OUT_BYTES", 1)
    stored = load(tmp_path / "p.npy", tmp_path, memory_mib=1)
    np.testing.assert_array_equal(stored.items["train"][:], held.items["train"])
    for split in ("validation", "calibration", "test"):
        np.testing.assert_array_equal(stored.items[split], held.items[split][:20])
        assert len(stored.labels[split]) == 20
    assert stored.notes[1] == (
        "Of the held-out pictures (validation 30, calibration 60, test 60) 20 each are used."
    )
    labels = np.repeat(["good", "bad"], [100, 200])
    np.savez(tmp_path / "classes.npz", items=pixels, labels=labels)
    kept = load(tmp_path / "classes.npz", tmp_path, memory_mib=1, keep=["good"])
    assert kept.outliers is not None
    assert len(kept.outliers) == 20
    assert "outliers " in kept.notes[1]


def test_a_large_array_is_checked_before_it_is_trained_on(tmp_path: Path, pixels: np.ndarray) -> None:
    floats = (pixels / 255).astype(np.float32)
    floats[290, 3, 3] = 1.5
    np.save(tmp_path / "floats.npy", floats)
    np.save(tmp_path / "masks.npy", pixels % 2)
    for name, words in (("floats", "the first is 1.5, in item 290"), ("masks", "or zeros and ones")):
        with pytest.raises(DataError, match=words):
            load(tmp_path / f"{name}.npy", tmp_path, memory_mib=1)


def peak_of_a_training(folder: Path, form: str, count: int) -> int:
    """Return the peak resident memory of a training on pictures, with a fixed number of them held out."""
    folder.mkdir()
    random = np.random.default_rng(0)
    path = folder / form
    if form != "pictures":
        array = np.lib.format.open_memmap(folder / "pictures.npy", "w+", np.uint8, (count, 3, WIDE, WIDE))
        for first in range(0, count, 100):
            array[first : first + 100] = random.integers(0, 256, (100, 3, WIDE, WIDE), np.uint8)
        if form.endswith("npz"):
            np.savez_compressed(path, items=array)
        del array
    else:
        path.mkdir()
        for first in range(0, count, 100):
            write_pictures(path / f"{first:06}", random.integers(0, 256, (100, WIDE, WIDE, 3), np.uint8))
    share = 100 / count
    (folder / "recipe.toml").write_text(f"""
        name = "pictures"
        [data]
        dataset = "{"images" if form == "pictures" else "arrays"}"
        path = "{form}"
        memory_mib = 1
        validation_share = {share}
        calibration_share = {share}
        test_share = {share}
        [network]
        kind = "dense"
        latent = 4
        hidden = [8]
        [vae]
        likelihood = "discretised-logistic"
        [loop]
        steps = 30
        batch_rows = 32
        validate_every = 30
    """)
    run = [sys.executable, "-m", "training", "train", "recipe.toml", "--quiet"]
    environment = {**os.environ, "HOME": str(folder), "PYTHONPATH": str(REPOSITORY)}
    return peak_resident_bytes(run, folder, environment)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("form", ["pictures.npy", "pictures.npz", "pictures"])
def test_a_training_holds_no_more_for_ten_times_the_pictures(tmp_path: Path, form: str) -> None:
    fewer, more = (peak_of_a_training(tmp_path / str(count), form, count) for count in (1_000, 10_000))
    added_as_bytes = 9_000 * 3 * WIDE * WIDE
    assert more - fewer < added_as_bytes / 3


def test_every_split_of_stored_pictures_is_disjoint(tmp_path: Path, pixels: np.ndarray) -> None:
    np.save(tmp_path / "p.npy", pixels)
    stored = load(tmp_path / "p.npy", tmp_path, memory_mib=1)
    rows = [row.tobytes() for split in SPLITS for row in stored.items[split][:]]
    assert len(set(rows)) == len(rows) == COUNT
