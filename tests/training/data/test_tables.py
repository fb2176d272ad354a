"""The user's own table, CSV, TSV or Parquet."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

from service.format.columns import Column
from tests.training.data.own_data import (
    ALL,
    ROWS,
    a_table,
    load,
    refusal,
    same,
    stacked,
    write_csv,
)


@pytest.mark.parametrize("suffix", ["tsv", "parquet"])
def test_every_format_of_the_same_table_gives_equal_items(tmp_path: Path, suffix: str) -> None:
    from_csv = load("table", write_csv(tmp_path / "table.csv", a_table()), **ALL)
    path = tmp_path / f"table.{suffix}"
    if suffix == "tsv":
        write_csv(path, a_table(), "\t")
    else:
        table = pyarrow.table(a_table())
        dictionary = table["colour"].dictionary_encode()
        parquet.write_table(table.set_column(2, "colour", dictionary), path)
    other = load("table", path, **ALL)
    assert same(from_csv, other)
    assert from_csv.columns == other.columns
    assert from_csv.class_names == other.class_names == ("bad", "good")


def test_a_table_keeps_its_units_and_the_order_of_its_columns(tmp_path: Path) -> None:
    table = a_table()
    dataset = load("table", write_csv(tmp_path / "table.csv", table), **ALL)
    assert [(column.name, column.categories) for column in dataset.columns] == [
        ("length", ()), ("colour", ("blue", "green", "red")), ("count", ()), ("old", ()),
    ]  # fmt: skip
    assert dataset.item_shape == (6,)
    assert dataset.source == "60 rows of table.csv (columns: 3 numeric, 1 categorical)"
    expected = [
        [length, colour == "blue", colour == "green", colour == "red", count, old]
        for length, colour, count, old in zip(
            table["length"], table["colour"], table["count"], table["old"], strict=True
        )
    ]
    found = stacked(dataset)
    assert found.dtype == np.float32
    assert sorted(found.tolist()) == sorted(np.array(expected, np.float32).tolist())


def test_a_column_knows_the_range_and_the_decimals_of_its_training_rows(tmp_path: Path) -> None:
    random = np.random.default_rng(5)
    table: dict[str, list[Any]] = {
        "age": random.integers(18, 90, ROWS).tolist(),
        "children": ["" if row % 7 == 0 else row % 3 for row in range(ROWS)],
        "old": [bool(row % 2) for row in range(ROWS)],
        "price": [f"{price:.2f}" for price in random.uniform(0, 1e6, ROWS)],
        "length": random.normal(0, 1, ROWS).tolist(),
        "nanoseconds": random.integers(0, 2**60, ROWS).tolist(),
        "grade": [1 + row % 3 for row in range(ROWS)],
        "colour": [("red", "blue")[row % 2] for row in range(ROWS)],
    }
    dataset = load("table", write_csv(tmp_path / "table.csv", table), one_hot=["grade", "colour"])
    decimals = {column.name: column.decimals for column in dataset.columns}
    assert decimals == {
        "age": 0, "children": 0, "old": 0, "price": 2, "length": None, "nanoseconds": None, "grade": 0,
        "colour": None,
    }  # fmt: skip
    low, high = np.nanmin(dataset.items["train"], axis=0), np.nanmax(dataset.items["train"], axis=0)
    for place, column in enumerate(dataset.columns[:-2]):
        assert np.array(column.value_range, np.float32).tolist() == [low[place], high[place]]
    assert dataset.columns[-1].value_range is None


def test_categories_are_whole_numbers_or_truth_values_only_if_all_of_the_file_are(tmp_path: Path) -> None:
    for words, decimals in (
        (["1", "2", "-30"], 0), (["01", "02", "13"], None), (["1", "2", "other"], None),
        (["True", "False", "TRUE"], 0), (["true", "false", "other"], None), (["true", "1", "0"], None),
    ):  # fmt: skip
        path = write_csv(tmp_path / "t.csv", {"x": [*range(ROWS)], "code": words * (ROWS // 3)})
        assert load("table", path, one_hot=["code"]).columns[1].decimals == decimals


def test_a_file_of_float32_has_the_decimals_that_it_was_written_with(tmp_path: Path) -> None:
    cents = np.random.default_rng(0).integers(0, 10_000, (ROWS, 2)) / 100
    np.save(tmp_path / "rows.npy", cents.astype(np.float32))
    assert [column.decimals for column in load("arrays", tmp_path / "rows.npy").columns] == [2, 2]


def test_what_is_known_of_draws_alone_leaves_a_run_that_can_be_continued(tmp_path: Path) -> None:
    dataset = load("table", write_csv(tmp_path / "table.csv", a_table()), **ALL)
    before = [column.model_copy(update={"value_range": None, "decimals": None}) for column in dataset.columns]
    assert replace(dataset, columns=tuple(before)).fingerprint == dataset.fingerprint


def test_scaling_standardises_the_training_split_and_leaves_one_hot_features(tmp_path: Path) -> None:
    dataset = load("table", write_csv(tmp_path / "table.csv", a_table()), **ALL)
    assert dataset.scaling is not None
    standard = (dataset.items["train"] - dataset.scaling.shift) / dataset.scaling.scale
    numbers = [0, 4, 5]
    assert np.allclose(standard[:, numbers].mean(axis=0), 0, atol=1e-4)
    assert np.allclose(standard[:, numbers].std(axis=0), 1, atol=1e-4)
    assert np.array_equal(standard[:, 1:4], dataset.items["train"][:, 1:4])


def test_one_hot_features_of_a_column_sum_to_1(tmp_path: Path) -> None:
    dataset = load("table", write_csv(tmp_path / "table.csv", a_table()), **ALL, keep=["good"])
    assert dataset.outliers is not None
    for items in (*dataset.items.values(), dataset.outliers):
        assert np.array_equal(items[:, 1:4].sum(axis=1), np.ones(len(items)))


def test_categories_that_the_file_lacks_have_a_place_of_their_own(tmp_path: Path) -> None:
    table = a_table()
    dataset = load("table", write_csv(tmp_path / "table.csv", table), **{**ALL, "unseen": "other"})
    names = ("blue", "green", "red", "other")
    assert dataset.columns[1] == Column(name="colour", categories=names, unseen="other")
    assert not stacked(dataset)[:, 4].any()
    assert dataset.scaling is not None
    assert dataset.scaling.absent == (4,)
    table["colour"][::6] = ["other"] * (ROWS // 6)
    dataset = load("table", write_csv(tmp_path / "table.csv", table), **{**ALL, "unseen": "other"})
    names = ("blue", "green", "other", "red")
    assert dataset.columns[1] == Column(name="colour", categories=names, unseen="other")
    assert dataset.scaling is not None
    assert dataset.scaling.absent == ()


def test_a_dataset_names_the_columns_that_the_model_does_not_see(tmp_path: Path) -> None:
    assert load("table", write_csv(tmp_path / "table.csv", a_table()), **ALL).left_out == ("id", "kind")


def test_a_category_that_training_never_saw_has_its_feature(tmp_path: Path) -> None:
    table = a_table()
    table["colour"][0] = "violet"  # a row of the class that is not kept
    path = write_csv(tmp_path / "table.csv", table)
    dataset = load("table", path, **ALL, keep=["good"])
    assert dataset.columns[1].categories == ("blue", "green", "red", "violet")
    assert dataset.outliers is not None
    assert dataset.outliers[:, 4].sum() == 1
    assert stacked(dataset)[:, 4].sum() == 0


def test_codes_keep_their_leading_zeros_as_categories(tmp_path: Path) -> None:
    table = a_table()
    table["colour"] = [["007", "010"][number % 2] for number in range(ROWS)]
    dataset = load("table", write_csv(tmp_path / "table.csv", table), **ALL)
    assert dataset.columns[1].categories == ("007", "010")


def test_kept_classes_are_never_outliers_and_outliers_are_in_no_split(tmp_path: Path) -> None:
    table = a_table()
    path = write_csv(tmp_path / "table.csv", table)
    dataset = load("table", path, one_hot=["colour"], label="kind", keep=["good"])
    assert dataset.outliers is not None
    assert dataset.class_names == ("good",)
    assert all(not labels.any() for labels in dataset.labels.values())
    kinds = {
        part: {table["kind"][int(number)] for number in items[:, 0]}
        for part, items in (("splits", stacked(dataset)), ("outliers", dataset.outliers))
    }
    assert kinds == {"splits": {"good"}, "outliers": {"bad"}}
    assert len(dataset.outliers) + len(stacked(dataset)) == ROWS


def test_no_model_sees_the_label(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "table.csv", a_table())
    dataset = load("table", path, **ALL)
    assert "kind" not in [column.name for column in dataset.columns]
    assert np.bincount(np.concatenate(list(dataset.labels.values()))).tolist() == [20, 40]


STRICT = {**ALL, "missing": "refuse"}


def with_cell(column: str, row: int, value: Any) -> dict[str, list[Any]]:
    table = a_table()
    table[column][row] = value
    return table


def with_column(column: str, make: Callable[[int], Any]) -> dict[str, list[Any]]:
    return {**a_table(), column: [make(row) for row in range(ROWS)]}


@pytest.mark.parametrize(
    ("table", "options", "words"),
    [
        (a_table(), {}, ["'colour'", "'red'", "one_hot = ['colour']", "drop = ['colour']"]),
        (with_cell("length", 6, ""), STRICT, ["'length'", "1 missing", "row 7", "drop = ['length']"]),
        (with_cell("length", 6, "inf"), ALL, ["'length'", "1 infinite", "row 7"]),
        (with_cell("count", 3, "NA"), STRICT, ["'count'", "1 missing", "row 4", "missing = 'refuse'"]),
        (
            with_cell("count", 3, "many"),
            ALL,
            ["'count'", "'many' in row 4", 'missing_codes = { count = ["many"] }'],
        ),
        (with_cell("colour", 8, ""), STRICT, ["'colour'", "1 missing", "row 9"]),
        (
            {**a_table(), "none": [""] * ROWS, "never": [None] * ROWS},
            ALL,
            ["'none', 'never'", "without a value", "drop = ['none']", "drop = ['never']"],
        ),
        (with_cell("kind", 8, ""), ALL, ["'kind'", "1 missing", "row 9"]),
        (with_column("colour", lambda _: "red"), ALL, ["'colour'", "'red' in every row", "drop"]),
        (
            with_column("day", lambda row: f"2020-01-{row % 28 + 1:02}"),
            ALL,
            ["'day'", "dates", "'2020-01-01'"],
        ),
        (with_column("big", lambda row: 1e31 + row * 1e30), ALL, ["'big'", "60 values beyond 1e+30", "unit"]),
        (with_column("tiny", lambda row: row * 1e-35), ALL, ["'tiny'", "standard deviation", "unit"]),
        (with_column("far", lambda row: 1e12 + row), ALL, ["'far'", "subtract 1e+12", "drop = ['far']"]),
        (with_column("", lambda row: row), ALL, ["name of a column", 'drop = [""]']),
        (a_table(), {**ALL, "drop": ["idd"]}, ["drop", "'idd'", "did you mean 'id'"]),
        (a_table(), {**ALL, "label": "kin"}, ["label", "'kin'", "did you mean 'kind'"]),
        (a_table(), {**ALL, "keep": ["gut"]}, ["'gut'", "'bad', 'good'"]),
        (a_table(), {"label": "kind", "drop": list(a_table())[:-1]}, ["no columns are left"]),
        ({name: values[:5] for name, values in a_table().items()}, ALL, ["5 rows", "validation 0", "2"]),
        ({name: [] for name in a_table()}, ALL, ["no rows"]),
        ({"1.5": [1, 2], "3": [3, 4]}, {}, ["first line", "'1.5', '3'", "names above"]),
        ({"a": [3] * ROWS, "b": [0] * ROWS}, {}, ["every column has one value", "30 rows", "differ"]),
    ],
)
def test_a_table_that_cannot_be_learnt_is_refused_with_the_way_out(
    tmp_path: Path, table: dict[str, list[Any]], options: dict[str, Any], words: list[str]
) -> None:
    path = write_csv(tmp_path / "table.csv", table)
    message = refusal("table", path, **options)
    assert [word for word in words if word not in message] == [], message


def test_a_column_with_hundreds_of_categories_is_refused(tmp_path: Path) -> None:
    names = [f"name-{row}" for row in range(300)]
    path = write_csv(tmp_path / "table.csv", {"length": list(range(300)), "name": names})
    message = refusal("table", path, one_hot=["name"])
    assert "'name' has 300 categories" in message
    assert "drop = ['name']" in message


def test_columns_with_one_value_in_the_training_split_are_kept_and_named_all_at_once(tmp_path: Path) -> None:
    table: dict[str, list[Any]] = {"number": list(range(ROWS)), "rare": [0] * ROWS, "fixed": [-7.5] * ROWS}
    path = write_csv(tmp_path / "table.csv", {**table, "rare": list(range(ROWS))})
    in_test = int(load("table", path).items["test"][0, 0])
    table["rare"][in_test] = 1
    dataset = load("table", write_csv(path, table))
    assert dataset.scaling is not None
    assert dataset.scaling.constants == (1, 2)
    assert dataset.scaling.scale[1:] == pytest.approx([1e-4, 7.5e-4])
    assert np.array_equal(dataset.scaling.standardised(dataset.items["test"])[:, 1:], np.zeros((12, 2)))
    note = dataset.notes[-1]
    assert "2 columns have one value in the whole training split: rare (0), fixed (-7.5)" in note


def test_a_table_whose_columns_all_vary_has_no_notes_but_on_what_was_dropped(tmp_path: Path) -> None:
    notes = load("table", write_csv(tmp_path / "table.csv", a_table()), **ALL).notes
    assert notes == ("Left out by the recipe: 'id'.",)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", ["empty", "column names"]),
        (b"a,b\n1,2\n3\n", ["line 3 has 1 values", "the first line has 2", "commas"]),
        (b"a,a\n1,2\n", ["'a' is there 2 times", "rename"]),
        ("a,größe\n1,2\n".encode("latin-1"), ["UTF-8"]),
    ],
)
def test_a_damaged_csv_is_refused_with_what_was_expected(
    tmp_path: Path, content: bytes, words: list[str]
) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(content)
    message = refusal("table", path)
    assert [word for word in words if word not in message] == [], message
