"""The user's own data, of any kind: splits, options, and paths that lead nowhere."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tests.training.data.own_data import ALL, a_table, load, refusal, same, stacked, write_csv
from training.data import SPLITS
from training.data.options import DataOptions


def test_splits_are_disjoint_cover_every_row_and_have_the_shares(tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", np.arange(200.0).reshape(100, 2))
    dataset = load("arrays", tmp_path / "rows.npy", validation_share=0.11, test_share=0.3)
    assert {split: len(items) for split, items in dataset.items.items()} == {
        "train": 39, "validation": 11, "calibration": 20, "test": 30,
    }  # fmt: skip
    assert sorted(stacked(dataset)[:, 0].tolist()) == list(range(0, 200, 2))


def test_equal_options_give_equal_arrays_and_another_split_seed_does_not(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "table.csv", a_table())
    assert same(load("table", path, **ALL), load("table", path, **ALL))
    assert not same(load("table", path, **ALL), load("table", path, **ALL, split_seed=1))


@pytest.mark.parametrize(
    ("dataset", "name", "words"),
    [
        ("table", "gone.csv", "no such file"),
        ("table", "table.xlsx", "no such file"),
        ("arrays", "gone.npz", "no such file"),
        ("arrays", "items.txt", ".npy and .npz"),
        ("images", "gone", "no such folder"),
    ],
)
def test_a_path_that_is_not_there_or_of_another_kind_is_named(
    tmp_path: Path, dataset: str, name: str, words: str
) -> None:
    assert words in refusal(dataset, tmp_path / name)


@pytest.mark.parametrize("name", ["table.parquet", "items.npy", "items.npz"])
def test_a_damaged_file_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"PK\x03\x04 and nothing more")
    assert "save" in refusal("table" if name.startswith("table") else "arrays", tmp_path / name)


def test_options_that_the_content_has_no_use_for_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", np.arange(80.0).reshape(40, 2))
    assert "give pictures" in refusal("arrays", tmp_path / "rows.npy", binarise="threshold")
    assert "no classes" in refusal("arrays", tmp_path / "rows.npy", keep=["a"])
    parts: dict[str, npt.NDArray[Any]] = {split: np.ones((3, 2, 2)) for split in SPLITS}
    np.savez(tmp_path / "parts.npz", allow_pickle=False, **parts)
    assert "leave keep out" in refusal("arrays", tmp_path / "parts.npz", keep=["a"])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"dataset": "table"}, ["without a path", 'path = "table.csv"']),
        ({"dataset": "digits", "path": "x"}, ["path belongs to", "'digits'", "leave it out"]),
        ({"dataset": "ring", "keep": ["1"]}, ["keep belongs to", "'ring'"]),
        ({"dataset": "fashion-mnist", "test_share": 0.3}, ["test_share belongs to"]),
        ({"dataset": "images", "path": "x", "one_hot": ["a"]}, ["one_hot belongs to dataset 'table'"]),
        ({"dataset": "arrays", "path": "x", "size": [4, 4]}, ["size belongs to dataset 'images'"]),
        ({"dataset": "table", "path": "x", "channels": 1}, ["channels belongs to"]),
        ({"dataset": "table", "path": "x", "binarise": "dynamic"}, ["binarise belongs to"]),
        ({"dataset": "table", "path": "x", "keep": ["a"]}, ["without a label"]),
        ({"dataset": "table", "path": "x", "label": "a", "drop": ["a"]}, ["'a'", "drop and label"]),
        ({"dataset": "table", "path": "x", "one_hot": ["a"], "drop": ["a"]}, ["'a'", "drop and one_hot"]),
        (
            {"dataset": "arrays", "path": "x", "test_share": 0.5, "validation_share": 0.4},
            ["0.4, 0.2, 0.5", "in all 1.1", "lower"],
        ),
        ({"dataset": "arrays", "path": "x", "test_share": 0}, ["test_share"]),
        ({"dataset": "arrays", "path": "x", "split_seed": -1}, ["split_seed"]),
    ],
)
def test_options_that_do_not_belong_together_are_refused(options: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ValueError) as caught:
        DataOptions.model_validate(options)
    assert [word for word in words if word not in str(caught.value)] == [], str(caught.value)


def test_options_read_back_from_json_are_equal() -> None:
    options = DataOptions.model_validate(
        {"dataset": "table", "path": "t.csv", "label": "a", "keep": [1, "b"]}
    )
    assert options.keep == ("1", "b")
    assert DataOptions.model_validate(options.model_dump(mode="json")) == options


def test_every_option_has_its_meaning_written_down() -> None:
    assert [name for name, field in DataOptions.model_fields.items() if not field.description] == []
