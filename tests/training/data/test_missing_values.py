"""Tables that lack values."""

import json
from pathlib import Path

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

from pushforward.files import ItemLayout, read_inputs
from tests.training.data.own_data import ALL, ROWS, a_table, load, write_csv
from training.data import Dataset, Items
from training.data.options import DataOptions
from training.data.png import view_of
from training.recipe import RecipeError, parse_recipe


def with_gaps() -> dict[str, list[object]]:
    """The table, without the length of every fifth row and the colour of every sixth."""
    table: dict[str, list[object]] = dict(a_table())
    table["length"] = [value if row % 5 else "" for row, value in enumerate(table["length"])]
    table["colour"] = [value if row % 6 else "" for row, value in enumerate(table["colour"])]
    return table


def every_item(dataset: Dataset) -> Items:
    return np.concatenate(list(dataset.items.values()))


def test_an_empty_cell_is_nan_and_so_are_all_features_of_an_empty_category(tmp_path: Path) -> None:
    dataset = load("table", write_csv(tmp_path / "table.csv", with_gaps()), **ALL)
    missing = np.isnan(every_item(dataset))
    assert missing.sum(0).tolist() == [12, 10, 10, 10, 0, 0]
    assert dataset.scaling is not None
    assert dataset.scaling.takes_missing
    assert dataset.scaling.masked == (0, 1)
    assert dataset.columns[1].categories == ("blue", "green", "red")
    assert any("length (12), colour (10)" in note and f"Of {ROWS} rows" in note for note in dataset.notes)


def test_the_scaling_is_that_of_the_values_that_are_there(tmp_path: Path) -> None:
    dataset = load("table", write_csv(tmp_path / "table.csv", with_gaps()), **ALL)
    assert dataset.scaling is not None
    train = dataset.items["train"][:, 0]
    standard = dataset.scaling.standardised(dataset.items["train"])[:, 0]
    assert np.allclose(standard[~np.isnan(train)].mean(), 0, atol=1e-4)
    assert np.allclose(standard[~np.isnan(train)].std(), 1, atol=1e-4)
    assert (standard[np.isnan(train)] == 0).all()


def test_an_array_and_a_table_read_missing_values_alike(tmp_path: Path) -> None:
    items = np.random.default_rng(0).normal(size=(50, 3))
    items[::4, 1] = np.nan
    np.save(tmp_path / "items.npy", items)
    names = [f"feature-{place}" for place in range(3)]
    cells = {name: ["" if np.isnan(value) else value for value in items[:, place].tolist()]
             for place, name in enumerate(names)}  # fmt: skip
    array = load("arrays", tmp_path / "items.npy")
    table = load("table", write_csv(tmp_path / "items.csv", cells))
    for split, rows in array.items.items():
        np.testing.assert_array_equal(rows, table.items[split])
    assert array.scaling is not None
    assert array.scaling.masked == (1,)


def test_a_table_without_gaps_takes_no_missing_values_unless_new_categories_are_missing(
    tmp_path: Path,
) -> None:
    path = write_csv(tmp_path / "table.csv", a_table())
    for unseen, takes in (("other", False), ("refuse", False), ("missing", True)):
        scaling = load("table", path, **{**ALL, "unseen": unseen}).scaling
        assert scaling is not None
        assert scaling.takes_missing == takes
        assert scaling.masked == ()


def test_new_categories_cannot_be_missing_values_where_these_are_refused() -> None:
    data = {"dataset": "table", "path": "a.csv", "unseen": "missing", "missing": "refuse"}
    recipe = {"name": "a", "data": data, "network": {"kind": "dense", "latent": 2, "hidden": [4]},
              "vae": {"likelihood": "gaussian"}, "loop": {"steps": 1, "batch_rows": 1}}  # fmt: skip
    with pytest.raises(RecipeError, match="unseen = 'missing'"):
        parse_recipe(recipe)


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_infinities_that_are_called_missing_are_missing_in_training_and_in_serving(
    tmp_path: Path, ending: str
) -> None:
    table = dict(a_table())
    table["length"] = [*map(float, ("inf", "-inf")), *table["length"][2:]]
    path = write_csv(tmp_path / "table.csv", table)
    if ending == "parquet":
        path = tmp_path / "table.parquet"
        parquet.write_table(pyarrow.table(table), path)
    codes = {"length": [float("inf"), float("-inf")]}
    options = {"dataset": "table", "path": str(path), **ALL, "missing_codes": codes}
    checked = DataOptions.model_validate(options)
    assert DataOptions.model_validate_json(checked.model_dump_json()) == checked
    dataset = load("table", path, **ALL, missing_codes=codes)
    columns = json.loads(json.dumps([column.model_dump() for column in dataset.columns], allow_nan=False))
    assert columns[0]["codes"] == ["inf", "-inf"]
    rows = read_inputs([str(path)], ItemLayout(dataset.item_shape, columns)).rows
    assert np.flatnonzero(np.isnan(rows[:, 0])).tolist() == [0, 1]


def test_a_number_that_is_called_missing_is_so_however_a_category_of_text_writes_it(tmp_path: Path) -> None:
    table = dict(a_table())
    rows = len(table["length"])
    table["grade"] = [("1.0", "2.0", "9.0")[row % 3] for row in range(rows)]
    path = write_csv(tmp_path / "table.csv", table)
    options = ALL | {"one_hot": ["colour", "grade"], "missing_codes": {"grade": [9]}}
    dataset = load("table", path, **options)
    grade = next(column for column in dataset.columns if column.name == "grade")
    assert grade.categories == ("1.0", "2.0")


def test_of_many_columns_that_lack_values_those_that_lack_most_are_told_of(tmp_path: Path) -> None:
    table = {f"c{place}": ["" if row < 2 * place else row for row in range(30)] for place in range(9)}
    path = write_csv(tmp_path / "t.csv", table)
    layout = ItemLayout((9,), [{"name": name, "categories": []} for name in table])
    told = [note.partition(": ")[2] for note in read_inputs([str(path)], layout).notes]
    assert told == [
        *(f"the column `c{place}` is empty in {2 * place} of 30 rows, first in row 0" for place in (8, 7, 6)),
        "5 more columns are empty in some rows",
    ]


def test_nan_needs_no_code() -> None:
    with pytest.raises(ValueError, match="leave it out"):
        DataOptions.model_validate(
            {"dataset": "table", "path": "a.csv", "missing_codes": {"a": [float("nan")]}}
        )


def test_the_plot_of_two_columns_that_lack_values_shows_those_that_are_there() -> None:
    whole = np.array([[0, 10], [2, 14], [1, 11]], np.float32)
    gaps = np.array([[0, np.nan], [np.nan, 10], [2, 14], [1, 11]], np.float32)
    assert view_of(gaps) == view_of(whole) is not None


def test_a_missing_id_is_empty_and_bytes_of_text_are_text(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    ids = pyarrow.array([b"one", None, b"\xff"])
    parquet.write_table(pyarrow.table({"id": ids, "a": [1.0, 2.0, 3.0]}), path)
    layout = ItemLayout((1,), [{"name": "a", "categories": []}], "id")
    assert read_inputs([str(path)], layout).places["id"].tolist() == ["one", "", "\\xff"]
