"""The column that tells rows apart is written beside what is computed of them."""

from __future__ import annotations

import csv
import datetime
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

from pushforward.bulk.failures import BulkMistake
from tests.pushforward.bulk.work import hashes, table, work

COLOURS = np.array(["red", "green", "blue"])
CODES = [f"{number:04}" for number in range(300)]


def write_csv(path: Path, items: np.ndarray, ids: Sequence[Any], name: str = "patient") -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["height", name, "colour"])
        writer.writerows(zip(items[:, 0], ids, COLOURS[items[:, 1:].argmax(1)], strict=True))


def write_parquet(path: Path, items: np.ndarray, ids: pyarrow.Array, name: str = "patient") -> None:
    columns = {"height": items[:, 0], "colour": COLOURS[items[:, 1:].argmax(1)], name: ids}
    parquet.write_table(pyarrow.table(columns), path, row_group_size=64)


def test_codes_of_a_csv_keep_their_zeros(bulk_models: Path, table_items: np.ndarray, tmp_path: Path) -> None:
    write_csv(tmp_path / "x.csv", table_items, CODES)
    asked: dict[str, Any] = {"input": str(tmp_path / "x.csv"), "part_rows": 70}
    work("score", bulk_models, "toy-table", tmp_path / "plain", **asked)
    work("score", bulk_models, "toy-table", tmp_path / "named", id_column="patient", **asked)
    plain, named = table(tmp_path / "plain"), table(tmp_path / "named")
    assert named.column_names[:2] == ["row", "patient"]
    assert named["patient"].to_pylist() == CODES
    for name in plain.column_names:
        np.testing.assert_array_equal(named[name], plain[name])


@pytest.mark.parametrize(
    "ids",
    [
        pyarrow.array(range(10**12, 10**12 + 300)),
        pyarrow.array([None if number % 7 == 0 else code for number, code in enumerate(CODES)]),
        pyarrow.array(COLOURS[np.arange(300) % 3]).dictionary_encode(),
        pyarrow.array([datetime.date(2026, 1, 1)] * 300),
    ],
    ids=["numbers", "texts, some missing", "a dictionary", "dates"],
)
def test_ids_of_parquet_keep_their_type(
    bulk_models: Path, table_items: np.ndarray, tmp_path: Path, ids: pyarrow.Array
) -> None:
    (tmp_path / "x").mkdir()
    write_parquet(tmp_path / "x" / "0.parquet", table_items[:100], ids[:100])
    write_parquet(tmp_path / "x" / "1.parquet", table_items[100:], ids[100:])
    asked: dict[str, Any] = {"input": str(tmp_path / "x"), "part_rows": 70, "id_column": "patient"}
    work("reconstruct", bulk_models, "toy-table", tmp_path / "one", **asked)
    work("reconstruct", bulk_models, "toy-table", tmp_path / "two", processes=2, **asked)
    written = table(tmp_path / "one")["patient"]
    assert written.to_pylist() == ids.to_pylist()
    assert written.type == (ids.type.value_type if pyarrow.types.is_dictionary(ids.type) else ids.type)
    assert hashes(tmp_path / "one") == hashes(tmp_path / "two")


def test_the_name_of_a_folder_can_be_the_id_of_its_rows(
    bulk_models: Path, table_items: np.ndarray, tmp_path: Path
) -> None:
    for month in ("01", "02"):
        (tmp_path / "x" / f"month={month}").mkdir(parents=True)
        write_parquet(tmp_path / "x" / f"month={month}" / "0.parquet", table_items[:50], pyarrow.nulls(50))
    work("encode", bulk_models, "toy-table", tmp_path / "out", input=str(tmp_path / "x"), id_column="month")
    assert table(tmp_path / "out")["month"].to_pylist() == ["01"] * 50 + ["02"] * 50


def test_a_number_that_tells_rows_apart_is_none_of_their_values(bulk_models: Path, tmp_path: Path) -> None:
    latents = np.random.default_rng(0).normal(size=(40, 1))
    columns = {"patient": range(40), "latent": latents[:, 0]}
    parquet.write_table(pyarrow.table(columns), tmp_path / "x.parquet")
    asked = {"input": str(tmp_path / "x.parquet"), "id_column": "patient"}
    work("decode", bulk_models, "toy-table", tmp_path / "out", **asked)
    assert table(tmp_path / "out")["patient"].to_pylist() == list(range(40))


@pytest.mark.parametrize(
    ("name", "id_column", "said"),
    [
        ("patient", "height", "the model takes this column; name one that it does not know"),
        ("patient", "person", "has no column 'person', which --id names; it has `height`, `patient`"),
        ("row", "row", "the output has such a column itself; rename that of the ids"),
        ("surprise", "surprise", "the output has such a column itself; rename that of the ids"),
    ],
)
def test_a_column_that_cannot_be_that_of_the_ids_is_refused(
    bulk_models: Path, table_items: np.ndarray, tmp_path: Path, name: str, id_column: str, said: str
) -> None:
    write_csv(tmp_path / "x.csv", table_items, CODES, name)
    asked = {"input": str(tmp_path / "x.csv"), "id_column": id_column}
    with pytest.raises(BulkMistake, match=said):
        raise_failures(work("score", bulk_models, "toy-table", tmp_path / "out", **asked))


def test_arrays_and_files_with_ids_of_different_types_are_refused(
    bulk_models: Path, table_items: np.ndarray, digits: Path, tmp_path: Path
) -> None:
    with pytest.raises(BulkMistake, match=r"arrays in \.npy have none"):
        work("score", bulk_models, "digits-vae", tmp_path / "out", input=str(digits), id_column="patient")
    (tmp_path / "x").mkdir()
    write_parquet(tmp_path / "x" / "0.parquet", table_items, pyarrow.array(CODES))
    write_parquet(tmp_path / "x" / "1.parquet", table_items, pyarrow.array(range(300)))
    asked = {"input": str(tmp_path / "x"), "id_column": "patient"}
    with pytest.raises(BulkMistake, match="holds int64, and string in a file before; save them alike"):
        work("score", bulk_models, "toy-table", tmp_path / "out", **asked)
    parquet.write_table(pyarrow.table({"a": [0.5], "ids": [[1, 2]]}), tmp_path / "lists.parquet")
    asked = {"input": str(tmp_path / "lists.parquet"), "id_column": "ids"}
    with pytest.raises(BulkMistake, match="column 'ids' holds lists"):
        work("decode", bulk_models, "toy-table", tmp_path / "out", **asked)


def raise_failures(report: Any) -> None:
    """Raises the first error of the parts, if there is one."""
    for failure in report.failures:
        raise failure


def test_changed_ids_are_a_changed_input(bulk_models: Path, table_items: np.ndarray, tmp_path: Path) -> None:
    many = np.tile(table_items, (20, 1))  # longer than the ends of a file that its fingerprint covers
    codes = [f"{number:08}" for number in range(len(many))]
    asked: dict[str, Any] = {"input": str(tmp_path / "x.csv"), "id_column": "patient", "part_rows": 500}
    write_csv(tmp_path / "x.csv", many, codes)
    work("score", bulk_models, "toy-table", tmp_path / "out", **asked)
    (tmp_path / "out" / "_manifest.json").unlink()
    write_csv(tmp_path / "x.csv", many, [*codes[:3000], "????????", *codes[3001:]])
    with pytest.raises(BulkMistake, match="has changed: rows 3000 to 3499 are not those"):
        work("score", bulk_models, "toy-table", tmp_path / "out", **asked)
