"""The user's own arrays, .npy and .npz."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from service.format.columns import Column
from tests.training.data.own_data import load, random_pixels, refusal, stacked
from training.data import SPLITS


def test_splits_of_an_npz_that_holds_them_keep_their_items_in_an_order_of_their_own(tmp_path: Path) -> None:
    sizes = {"train": 5, "validation": 2, "calibration": 3, "test": 4}
    parts = {split: random_pixels(rows, 3, 3) for split, rows in sizes.items()}
    np.savez(tmp_path / "parts.npz", allow_pickle=False, **parts)
    dataset = load("arrays", tmp_path / "parts.npz")
    for split in SPLITS:
        came = parts[split].astype(np.float32) / np.float32(255)
        assert {row.tobytes() for row in dataset.items[split]} == {row.tobytes() for row in came}


def test_float_pictures_in_the_unit_interval_stay_as_they_are(tmp_path: Path) -> None:
    items = np.random.default_rng(0).random((20, 3, 4, 4))
    np.save(tmp_path / "items.npy", items)
    dataset = load("arrays", tmp_path / "items.npy")
    assert dataset.item_shape == (3, 4, 4)
    assert sorted(map(bytes, stacked(dataset))) == sorted(map(bytes, items.astype(np.float32)))


def test_whole_numbers_as_classes_are_sorted_by_value(tmp_path: Path) -> None:
    np.savez(tmp_path / "items.npz", items=random_pixels(24, 2, 2), labels=np.arange(24) % 12)
    assert load("arrays", tmp_path / "items.npz").class_names == tuple(map(str, range(12)))


def test_own_pictures_can_be_binarised(tmp_path: Path) -> None:
    np.savez(tmp_path / "items.npz", items=random_pixels(40, 8, 8), labels=np.arange(40) % 2)
    grey = load("arrays", tmp_path / "items.npz", keep=["0"])
    threshold = load("arrays", tmp_path / "items.npz", keep=["0"], binarise="threshold")
    dynamic = load("arrays", tmp_path / "items.npz", keep=["0"], binarise="dynamic")
    assert grey.outliers is not None
    assert threshold.outliers is not None
    assert dynamic.outliers is not None
    assert np.array_equal(threshold.outliers, grey.outliers >= 0.5)
    assert np.array_equal(dynamic.items["train"], grey.items["train"])
    for items in (dynamic.outliers, dynamic.items["test"], threshold.items["train"]):
        assert set(np.unique(items)) == {0, 1}


def test_rows_of_numbers_in_an_array_are_a_table(tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", np.random.default_rng(0).integers(-5, 5, (40, 2)))
    dataset = load("arrays", tmp_path / "rows.npy")
    assert dataset.columns == tuple(
        Column(name=f"feature-{place}", value_range=(-5, 4), decimals=0) for place in range(2)
    )
    assert dataset.scaling is not None
    assert dataset.items["train"].min() < -1


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"items": np.full((20, 4, 4), 1.5)}, ["320 values", "outside [0, 1]", "1.5", "uint8"]),
        ({"items": np.full((20, 4, 4), np.nan)}, ["outside [0, 1]", "nan"]),
        ({"items": np.full((20, 4, 4), 1e300)}, ["outside [0, 1]", "1e+300"]),
        ({"items": np.ones((20, 4, 4), np.int64)}, ["int64", "wanted uint8"]),
        ({"items": np.ones((20, 8, 8, 3), np.uint8)}, ["8 channels", "transpose(0, 3, 1, 2)"]),
        ({"items": np.ones((20, 8, 8, 8), np.uint8)}, ["8 channels", "(N, C, H, W)"]),
        ({"items": np.ones(20)}, ["shape [20]", "(N, F)"]),
        ({"items": np.ones((0, 4, 4))}, ["shape [0, 4, 4]"]),
        ({"items": np.array([["a"]])}, ["items", "numbers"]),
        ({"items": np.ones((20, 2))}, ["every column has one value", "10 rows", "differ"]),
        ({"items": np.array([[1.0], [np.nan]] * 9)}, ["every column has one value"]),
        ({"items": np.ones((4, 4, 4))}, ["4 rows", "validation 0"]),
        ({"x": np.ones((20, 4, 4))}, ["'x'", "`items`", "`train`"]),
        ({"items": np.ones((20, 4, 4)), "labels": np.ones(19, np.int64)}, ["labels", "[19]", "20 items"]),
        ({"items": np.array([None] * 20, object)}, ["Python objects", "np.stack"]),
        (
            {split: np.ones((2 + (split == "test"), 2, 2 + (split == "test"))) for split in SPLITS},
            ["splits differ", "test float64 [3, 2, 3]"],
        ),
        ({split: np.ones((1, 2, 2)) for split in SPLITS}, ["train 1", "at least 2"]),
    ],
)  # fmt: skip
def test_arrays_that_are_no_items_are_refused_with_what_was_expected(
    tmp_path: Path, arrays: dict[str, npt.NDArray[Any]], words: list[str]
) -> None:
    path = tmp_path / "items.npz"
    np.savez(path, allow_pickle=True, **arrays)
    message = refusal("arrays", path)
    assert [word for word in words if word not in message] == [], message


def test_a_file_that_is_only_named_like_one_of_numpy_is_called_that(tmp_path: Path) -> None:
    (tmp_path / "items.npy").write_text("a,b\n1,2\n")
    assert "no file of numpy's, though so named" in refusal("arrays", tmp_path / "items.npy")


def test_an_npy_of_python_objects_is_never_unpickled(tmp_path: Path) -> None:
    np.save(tmp_path / "items.npy", np.array([{}], object), allow_pickle=True)
    assert "never unpickled" in refusal("arrays", tmp_path / "items.npy")
