import gzip
import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from training.data import DataError, Dataset, fashion, load_dataset
from training.data.fashion import DEBIAN_FOLDER
from training.data.options import DataOptions

needs_fashion = pytest.mark.skipif(
    not DEBIAN_FOLDER.is_dir(), reason="needs Debian's package dataset-fashion-mnist"
)


@pytest.fixture(scope="module")
def binary_garments() -> Dataset:
    return load_dataset(DataOptions(dataset="fashion-mnist", binarise="dynamic"))


def rows_of(dataset: Dataset) -> list[tuple[str, bytes]]:
    return [(split, row.tobytes()) for split, images in dataset.items.items() for row in images]


def test_digits_are_split_in_proportion_and_every_row_appears_once(digits: Dataset) -> None:
    assert {split: len(images) for split, images in digits.items.items()} == {
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
    for split, images in digits.items.items():
        assert np.array_equal(images, again.items[split])
        assert np.array_equal(digits.labels[split], again.labels[split])
    assert not np.array_equal(digits.items["train"], other.items["train"])


def test_items_are_float32_in_the_unit_interval_in_contract_shape(digits: Dataset) -> None:
    for images in digits.items.values():
        assert images.dtype == np.float32
        assert images.shape[1:] == digits.item_shape == (1, 8, 8)
        assert images.min() == 0
        assert images.max() == 1


def test_threshold_binarises_every_split_and_dynamic_all_but_the_training_one() -> None:
    threshold = load_dataset(DataOptions(dataset="digits", binarise="threshold"))
    dynamic = load_dataset(DataOptions(dataset="digits", binarise="dynamic"))
    assert all(set(np.unique(images)) == {0, 1} for images in threshold.items.values())
    for split, images in dynamic.items.items():
        assert (len(np.unique(images)) == 2) == (split != "train")


@needs_fashion
def test_fashion_has_the_stated_splits_and_as_many_garments_of_each_kind(garments: Dataset) -> None:
    assert {split: len(images) for split, images in garments.items.items()} == {
        "train": 50_000, "validation": 5_000, "calibration": 5_000, "test": 10_000,
    }  # fmt: skip
    assert garments.item_shape == (1, 28, 28)
    assert len(garments.class_names) == 10
    assert np.bincount(garments.labels["test"]).tolist() == [1000] * 10
    train = np.concatenate([garments.labels[split] for split in ("train", "validation", "calibration")])
    assert np.bincount(train).tolist() == [6000] * 10


def test_of_digits_some_can_be_kept_and_the_others_of_the_test_split_are_outliers() -> None:
    whole, some = (load_dataset(DataOptions(dataset="digits", keep=keep)) for keep in ((), ("3", "5")))
    assert some.class_names == ("3", "5")
    for split, images in some.items.items():
        kept = np.isin(whole.labels[split], (3, 5))
        np.testing.assert_array_equal(images, whole.items[split][kept])
        np.testing.assert_array_equal(some.labels[split], (whole.labels[split][kept] - 3) / 2)
    kept = np.isin(whole.labels["test"], (3, 5))
    assert some.outliers is not None
    np.testing.assert_array_equal(some.outliers, whole.items["test"][~kept])
    with pytest.raises(DataError, match="'eleven'"):
        load_dataset(DataOptions(dataset="digits", keep=("eleven",)))


@needs_fashion
def test_of_binarised_garments_the_kept_and_the_others_are_those_of_the_literature(
    binary_garments: Dataset,
) -> None:
    whole = binary_garments
    some = load_dataset(DataOptions(dataset="fashion-mnist", binarise="dynamic", keep=("Bag",)))
    bags = whole.labels["test"] == whole.class_names.index("Bag")
    assert some.outliers is not None
    np.testing.assert_array_equal(some.items["test"], whole.items["test"][bags])
    np.testing.assert_array_equal(some.outliers, whole.items["test"][~bags])


@needs_fashion
def test_the_binarised_test_pictures_of_fashion_are_those_of_the_literature(
    garments: Dataset, binary_garments: Dataset
) -> None:
    """The published code on flat pictures: seed 777, the last 10 000 of the training file, then the test."""
    drawn = binary_garments.items["test"]
    training_file = gzip.decompress((DEBIAN_FOLDER / "train-images-idx3-ubyte.gz").read_bytes())
    validation = np.frombuffer(training_file[-10_000 * 784 :], np.uint8).reshape(10_000, 784)
    published = np.random.RandomState(777)
    published.binomial(1, validation / 255.0)
    pixels = np.rint(garments.items["test"].reshape(10_000, 784) * 255)
    assert np.array_equal(published.binomial(1, pixels / 255.0), drawn.reshape(10_000, 784))
    assert hashlib.sha256(drawn.astype(np.uint8).tobytes()).hexdigest() == (
        "33bc86729d1a5fabe7fc26556683b981e41cc8e110df6b260f45f515fd283c24"
    )


def test_libraries_that_only_some_datasets_need_are_not_imported() -> None:
    code = (
        "import sys, training.data; print([name for name in ('pyarrow', 'sklearn') if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_a_damaged_file_in_the_cache_is_refused_by_its_hash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fashion, "DEBIAN_FOLDER", tmp_path / "not-there")
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(b"\0\0\x08\x01\0\0\0\0"))
    with pytest.raises(DataError, match="unpacks to sha256"):
        load_dataset(DataOptions(dataset="fashion-mnist"), cache=tmp_path)
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(b"half a file")
    with pytest.raises(DataError, match="not a whole gzip file"):
        load_dataset(DataOptions(dataset="fashion-mnist"), cache=tmp_path)


def test_a_failed_download_says_where_the_files_can_be_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fashion, "DEBIAN_FOLDER", tmp_path / "not-there")
    monkeypatch.setattr(fashion, "OFFICIAL_ADDRESS", "http://127.0.0.1:9/")
    with pytest.raises(DataError, match="dataset-fashion-mnist"):
        load_dataset(DataOptions(dataset="fashion-mnist"), cache=tmp_path)


@needs_fashion
def test_a_download_is_checked_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fashion, "OFFICIAL_ADDRESS", f"{DEBIAN_FOLDER.as_uri()}/")
    monkeypatch.setattr(fashion, "DEBIAN_FOLDER", tmp_path / "not-there")
    dataset = load_dataset(DataOptions(dataset="fashion-mnist"), cache=tmp_path / "cache")
    assert len(dataset.items["test"]) == 10_000
    assert sorted(path.name for path in (tmp_path / "cache").iterdir()) == sorted(fashion.FASHION_SHA256)
