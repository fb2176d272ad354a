"""Tables as people have them: some marks are detected, some reported, some refused with advice."""

import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

from pushforward.files import ItemLayout, read_inputs
from tests.training.data.own_data import load, refusal, same, stacked, write_csv, write_pictures
from tests.training.data.table_forms import FORMS, ONE_HOT, TABLE, as_csv
from training.data import Dataset
from training.data.draft import write_recipe
from training.recipe import parse_recipe

RANDOM = np.random.default_rng(7)
ROWS = len(TABLE["flow"])


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    path = tmp_path_factory.mktemp("plain") / "t.csv"
    path.write_text(as_csv(TABLE))
    return load("table", path, **ONE_HOT)


@pytest.mark.parametrize("name", FORMS)
def test_a_table_in_any_form_is_learned_alike_and_scores_as_it_is(
    tmp_path: Path, expected: Dataset, name: str
) -> None:
    path = tmp_path / name
    FORMS[name](path)
    dataset = load("table", path, **ONE_HOT)
    assert same(dataset, expected)
    assert dataset.columns == expected.columns
    columns = [column.model_dump() for column in dataset.columns]
    rows = read_inputs([str(path)], ItemLayout(dataset.item_shape, columns)).rows
    assert sorted(rows.tolist()) == sorted(stacked(dataset).tolist())


@pytest.mark.parametrize("name", ["semicolons.csv", "utf16.csv", "index.parquet", "spark.parquet"])
def test_what_was_found_or_left_out_is_told(tmp_path: Path, name: str) -> None:
    words = {
        "semicolons.csv": "separated by semicolons, decimal commas",
        "utf16.csv": "utf-16",
        "index.parquet": "Left out '__index_level_0__', the index that pandas stored",
        "spark.parquet": "2 parts",
    }
    FORMS[name](tmp_path / name)
    assert words[name] in " ".join(load("table", tmp_path / name, **ONE_HOT).notes)


def test_marks_that_the_recipe_gives_are_taken(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(as_csv({"a": ["1,5", "2", "3"] * 20, "b": [1, 2, 4] * 20}, "#"))
    dataset = load("table", tmp_path / "t.csv", separator="#", decimal=",")
    assert sorted(set(stacked(dataset)[:, 0].tolist())) == [1.5, 2, 3]


def test_all_flaws_of_a_file_are_told_at_once(tmp_path: Path) -> None:
    table = {
        **TABLE,
        "day": [f"2020-01-{row % 28 + 1:02}" for row in range(ROWS)],
        "well": [f"W-{row}" for row in range(ROWS)],
        "state": [["on", "off"][row % 2] for row in range(ROWS)],
        "level": [*range(ROWS - 2), "?", "n.a."],
        "ratio": ["inf", *range(ROWS - 1)],
    }
    message = refusal("table", write_csv(tmp_path / "t.csv", table), **ONE_HOT)
    for words in (
        "5 things are wrong",
        "'day' holds dates, e.g. '2020-01-01' in row 1",
        "'well' holds another text in every row",
        "one_hot = ['state']",
        "'?' in row 59, 'n.a.' in row 60",
        'missing_codes = { level = ["?", "n.a."] }',
        "1 infinite values, in row 1 ",
        "drop = ['day', 'well', 'state', 'level', 'ratio']",
    ):
        assert words in message, message
    assert "one_hot = ['well']" not in message


def test_codes_of_missing_values_are_named_with_their_rows_and_can_be_called_missing(tmp_path: Path) -> None:
    table = {**TABLE, "flow": [999999999 if row in (3, 40) else row % 7 for row in range(ROWS)]}
    path = write_csv(tmp_path / "t.csv", table)
    (note,) = load("table", path, **ONE_HOT).notes
    assert "'flow' is 999999999 in 2 rows, far from all its other values: rows 4, 41" in note
    assert "missing_codes = { flow = [999999999] }" in note
    dataset = load("table", path, **ONE_HOT, missing_codes={"flow": [999999999]})
    assert np.isnan(stacked(dataset)[:, 1]).sum() == 2
    assert [*dataset.columns[1].codes] == [999999999]
    columns = [column.model_dump() for column in dataset.columns]
    rows = read_inputs([str(path)], ItemLayout(dataset.item_shape, columns)).rows
    assert np.flatnonzero(np.isnan(rows[:, 1])).tolist() == [3, 40]


def test_the_line_that_calls_marks_missing_is_toml_whatever_they_are(
    tmp_path: Path,
) -> None:
    names, marks = ('say "when"', "a\\b"), ('"?"', "n\\a", "none")
    column = [marks[row] if row < len(marks) else row % 7 for row in range(ROWS)]
    path = write_csv(tmp_path / "t.csv", {**TABLE, **dict.fromkeys(names, column)})
    message = refusal("table", path, **ONE_HOT)
    for name in names:
        advised = next(line for line in message.splitlines() if repr(name) in line)
        line = advised[advised.index("missing_codes = ") :].partition(", or ")[0]
        assert tomllib.loads(line) == {"missing_codes": {name: sorted(marks)}}


def test_a_column_that_merely_counts_is_warned_of(tmp_path: Path) -> None:
    numbers = [row + row // 9 for row in range(ROWS)]
    path = write_csv(tmp_path / "t.csv", {"Unnamed: 0": numbers, **TABLE})
    (note,) = load("table", path, **ONE_HOT).notes
    assert "'Unnamed: 0' only counts the rows" in note
    assert "drop = ['Unnamed: 0']" in note


@pytest.mark.parametrize("form", ["csv", "parquet"])
@pytest.mark.parametrize("keep", [False, "False", "false"])
def test_booleans_are_classes_whatever_wrote_them(tmp_path: Path, form: str, keep: Any) -> None:
    table = {"a": TABLE["flow"], "state": [row % 3 == 0 for row in range(ROWS)]}
    path = tmp_path / f"t.{form}"
    if form == "csv":
        write_csv(path, table)
    else:
        parquet.write_table(pyarrow.table(table), path)
    dataset = load("table", path, label="state", keep=[keep])
    assert dataset.class_names == ("false",)
    assert len(stacked(dataset)) == 40


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_numbers_from_0_are_names_of_columns(tmp_path: Path, form: str) -> None:
    table = {"0": TABLE["flow"], "1": TABLE["temperature"]}
    path = tmp_path / f"t.{form}"
    if form == "csv":
        write_csv(path, table)
    else:
        parquet.write_table(pyarrow.table(table), path)
    assert [column.name for column in load("table", path).columns] == ["0", "1"]
    assert len(stacked(load("table", path))) == ROWS


@pytest.mark.parametrize("name", ["semicolons.csv", "index.parquet", "spark.parquet", "t.csv.gz", "T.CSV"])
def test_a_recipe_is_written_for_a_table_in_any_form(tmp_path: Path, name: str) -> None:
    FORMS[name](tmp_path / name)
    written, findings = write_recipe(tmp_path / name, tmp_path / "recipe.toml")
    recipe = parse_recipe(tomllib.loads(written.read_text()))
    assert recipe.name == name.lower().partition(".")[0]
    assert recipe.data.one_hot == ("rock",)
    seen = " ".join(f"{finding.subject} {finding.seen}" for finding in findings)
    assert {
        "semicolons.csv": "semicolons",
        "index.parquet": "index that pandas",
        "spark.parquet": "2 parts",
    }.get(name, "") in seen


def test_masks_of_bool_are_0_and_1_and_those_of_uint8_are_refused_with_both_readings(tmp_path: Path) -> None:
    mask = RANDOM.random((ROWS, 8, 8)) > 0.5
    np.save(tmp_path / "mask.npy", mask)
    dataset = load("arrays", tmp_path / "mask.npy")
    assert dataset.item_shape == (1, 8, 8)
    assert set(np.unique(stacked(dataset))) == {0.0, 1.0}
    rows = read_inputs([str(tmp_path / "mask.npy")], ItemLayout((1, 8, 8))).rows
    assert sorted(rows.tolist()) == sorted(stacked(dataset).tolist())
    np.save(tmp_path / "mask.npy", mask.astype(np.uint8))
    message = refusal("arrays", tmp_path / "mask.npy")
    assert "nearly black pixels of 0 .. 255, or zeros and ones" in message


def test_a_picture_whose_alpha_hides_nothing_scores_as_it_was_trained(tmp_path: Path) -> None:
    from PIL import Image

    write_pictures(tmp_path / "pictures", RANDOM.integers(0, 256, (ROWS, 8, 8, 3), np.uint8))
    for path in (tmp_path / "pictures").iterdir():
        picture = Image.open(path).convert("RGBA")
        picture.save(path)
    dataset = load("images", tmp_path / "pictures")
    rows = read_inputs([str(tmp_path / "pictures")], ItemLayout((3, 8, 8))).rows
    assert sorted(rows.tolist()) == sorted(stacked(dataset).tolist())
