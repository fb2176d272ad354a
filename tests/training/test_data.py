import gzip
from pathlib import Path

import numpy as np
import pytest

from training import data
from training.data import DEBIAN_FOLDER, DataError, Dataset, load_dataset
from training.recipe import DataOptions

fashion = pytest.mark.skipif(
    not DEBIAN_FOLDER.is_dir(), reason="needs Debian's package dataset-fashion-mnist"
)


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_dataset(DataOptions(dataset="digits"))


def rows_of(dataset: Dataset) -> list[tuple[str, bytes]]:
    return [(split, row.tobytes()) for split, images in dataset.images.items() for row in images]


def test_digits_are_split_in_proportion_and_every_row_appears_once(digits: Dataset) -> None:
    assert {split: len(images) for split, images in digits.images.items()} == {
        "train": 1283, "validation": 128, "calibration": 128, "test": 258,
    }  # fmt: skip
    rows = [row for _, row in rows_of(digits)]
    whole = [row.tobytes() for row in load_digits_unsplit()]
    assert sorted(rows) == sorted(whole)


def load_digits_unsplit() -> np.ndarray:
    from sklearn.datasets import load_digits

    return np.asarray(load_digits().images[:, None] / 16.0, np.float32)


def test_calibration_rows_are_never_in_another_split(digits: Dataset) -> None:
    calibration = {row for split, row in rows_of(digits) if split == "calibration"}
    others = {row for split, row in rows_of(digits) if split != "calibration"}
    assert not calibration & others


def test_splits_depend_on_the_split_seed_alone(digits: Dataset) -> None:
    again = load_dataset(DataOptions(dataset="digits"))
    other = load_dataset(DataOptions(dataset="digits", split_seed=1))
    for split, images in digits.images.items():
        assert np.array_equal(images, again.images[split])
        assert np.array_equal(digits.labels[split], again.labels[split])
    assert not np.array_equal(digits.images["train"], other.images["train"])


def test_items_are_float32_in_the_unit_interval_in_contract_shape(digits: Dataset) -> None:
    for images in digits.images.values():
        assert images.dtype == np.float32
        assert images.shape[1:] == digits.item_shape == (1, 8, 8)
        assert images.min() == 0
        assert images.max() == 1


def test_threshold_binarises_every_split_and_dynamic_all_but_the_training_one() -> None:
    threshold = load_dataset(DataOptions(dataset="digits", binarise="threshold"))
    dynamic = load_dataset(DataOptions(dataset="digits", binarise="dynamic"))
    assert threshold.binary
    assert dynamic.binary
    assert all(set(np.unique(images)) == {0, 1} for images in threshold.images.values())
    for split, images in dynamic.images.items():
        assert (len(np.unique(images)) == 2) == (split != "train")


@fashion
def test_fashion_has_the_stated_splits_and_disjoint_rows() -> None:
    dataset = load_dataset(DataOptions(dataset="fashion-mnist"))
    assert {split: len(images) for split, images in dataset.images.items()} == {
        "train": 50_000, "validation": 5_000, "calibration": 5_000, "test": 10_000,
    }  # fmt: skip
    assert dataset.item_shape == (1, 28, 28)
    assert len(dataset.class_names) == 10
    assert np.bincount(dataset.labels["test"]).tolist() == [1000] * 10
    train = np.concatenate([dataset.labels[split] for split in ("train", "validation", "calibration")])
    assert np.bincount(train).tolist() == [6000] * 10


def test_a_damaged_file_in_the_cache_is_refused_by_its_hash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data, "DEBIAN_FOLDER", tmp_path / "not-there")
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(b"\0\0\x08\x01\0\0\0\0"))
    with pytest.raises(DataError, match="unpacks to sha256"):
        load_dataset(DataOptions(dataset="fashion-mnist"), cache=tmp_path)
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(b"half a file")
    with pytest.raises(DataError, match="not a whole gzip file"):
        load_dataset(DataOptions(dataset="fashion-mnist"), cache=tmp_path)


def test_a_failed_download_says_where_the_files_can_be_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data, "DEBIAN_FOLDER", tmp_path / "not-there")
    monkeypatch.setattr(data, "OFFICIAL_ADDRESS", "http://127.0.0.1:9/")
    with pytest.raises(DataError, match="dataset-fashion-mnist"):
        load_dataset(DataOptions(dataset="fashion-mnist"), cache=tmp_path)


def test_a_download_is_checked_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not DEBIAN_FOLDER.is_dir():
        pytest.skip("needs Debian's package dataset-fashion-mnist")
    monkeypatch.setattr(data, "OFFICIAL_ADDRESS", f"{DEBIAN_FOLDER.as_uri()}/")
    monkeypatch.setattr(data, "DEBIAN_FOLDER", tmp_path / "not-there")
    dataset = load_dataset(DataOptions(dataset="fashion-mnist"), cache=tmp_path / "cache")
    assert len(dataset.images["test"]) == 10_000
    assert sorted(path.name for path in (tmp_path / "cache").iterdir()) == sorted(data.FASHION_SHA256)
