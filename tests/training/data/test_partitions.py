"""Folders named KEY=VALUE, as Hive and Spark write them: columns of the tables in them, for all who read."""

from contextlib import closing
from pathlib import Path

import numpy as np
import pyarrow
import pytest
from pyarrow import csv, parquet

from pushforward.bulk.parquet import ParquetSource
from pushforward.bulk.rows import RowForm
from pushforward.bulk.storage import LocalStorage
from pushforward.files import ItemLayout, read_inputs
from service.errors import Unfit
from service.media.tables.sources import open_table
from tests.training.data.own_data import load, stacked
from training.data.inspection import inspect

ROWS = 40
RANDOM = np.random.default_rng(17)
FOLDERS = ("year=2023/rock=sand", "year=2023/rock=oil%20shale", "year=2024/rock=sand", "year=2024/rock=lime")


def written(root: Path, ending: str, folders: tuple[str, ...] = FOLDERS) -> Path:
    for folder in folders:
        (root / folder).mkdir(parents=True)
        numbers = pyarrow.table({name: RANDOM.normal(size=ROWS) for name in ("depth", "flow")})
        path = root / folder / f"part-0.{ending}"
        csv.write_csv(numbers, path) if ending == "csv" else parquet.write_table(numbers, path)
    return root


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_folder_is_learned_and_scored_with_the_columns_that_its_folders_name(
    tmp_path: Path, ending: str
) -> None:
    root = written(tmp_path / "wells", ending)
    inspection = inspect(root)
    assert "read with year, rock from the names of folders" in str(inspection.findings[0])
    dataset = inspection.load()
    assert {column.name: column.categories[:3] for column in dataset.columns} == {
        "depth": (), "flow": (), "year": (), "rock": ("lime", "oil shale", "sand")
    }  # fmt: skip
    columns = [column.model_dump() for column in dataset.columns]
    rows = read_inputs([str(root)], ItemLayout(dataset.item_shape, columns)).rows
    assert sorted(map(tuple, rows)) == sorted(map(tuple, stacked(dataset)))
    assert rows[:, 2].tolist() == [2023] * 2 * ROWS + [2024] * 2 * ROWS
    if ending == "parquet":
        names = [f"{folder}/part-0.parquet" for folder in sorted(FOLDERS)]
        form = RowForm(dataset.item_shape, "real", dataset.columns)
        paths = [(f"{root}/{name}", name) for name in names]
        with closing(ParquetSource(LocalStorage(), str(root), form, paths, "")) as source:
            np.testing.assert_array_equal(source.read(0, len(rows)).values, rows)


def test_a_missing_value_in_the_name_of_a_folder_is_missing(tmp_path: Path) -> None:
    root = written(tmp_path / "wells", "parquet", (*FOLDERS, "year=2024/rock=__HIVE_DEFAULT_PARTITION__"))
    dataset = load("table", root, one_hot=["rock"])
    assert dataset.columns[3].categories == ("lime", "oil shale", "sand", "other")
    assert np.isnan(stacked(dataset)[:, 3]).sum() == ROWS


def test_a_part_without_a_folder_that_the_others_have_is_named(tmp_path: Path) -> None:
    root = written(tmp_path / "wells", "csv", (*FOLDERS, "rock=lime"))
    with pytest.raises(Unfit, match="differ in their columns: year"):
        open_table(root)
