"""The first line of a table in text: names, or what exports have in their place."""

from pathlib import Path

import numpy as np
import pytest

from pushforward.files import ItemLayout, read_inputs
from service.errors import Unfit
from service.media.tables.matching import TableForm, features_of
from training.data import DataError, load_dataset
from training.data.inspection import inspect
from training.data.options import DataOptions

ROWS = 40
RANDOM = np.random.default_rng(13)
ROCKS = [["sand", "lime"][row % 2] for row in range(ROWS)]
LINES = [
    f"{depth:.3f},{flow:.2f},{rock}"
    for depth, flow, rock in zip(RANDOM.normal(9, 1, ROWS), RANDOM.normal(5, 1, ROWS), ROCKS, strict=True)
]


def written(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def refused(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        inspect(path).load()
    return str(caught.value)


@pytest.mark.parametrize(
    ("first", "row"),
    [
        ("depth,flow,rock,,,", "{line},,,"),
        (",depth,flow,rock", "{number},{line}"),
        (",,depth,flow,rock,,", "{number},a,{line},,"),
    ],
)
def test_an_index_and_empty_columns_need_no_names(tmp_path: Path, first: str, row: str) -> None:
    lines = [row.format(number=number, line=line) for number, line in enumerate(LINES)]
    path = written(tmp_path / "t.csv", first, *lines)
    inspection = inspect(path)
    assert inspection.data["drop"] == [""]
    dataset = inspection.load()
    assert [column.name for column in dataset.columns] == ["depth", "flow", "rock"]
    columns = [column.model_dump() for column in dataset.columns]
    plain = written(tmp_path / "plain.csv", "depth,flow,rock", *LINES)
    layout = ItemLayout(dataset.item_shape, columns)
    assert np.array_equal(read_inputs([str(path)], layout).rows, read_inputs([str(plain)], layout).rows)


def test_columns_of_one_name_can_be_left_out_together(tmp_path: Path) -> None:
    path = written(
        tmp_path / "t.csv", "depth,note,note,rock", *(line.replace(",", ",1,", 1) for line in LINES)
    )
    assert "column 'note' is there 2 times; rename one" in refused(path)
    data = {"dataset": "table", "path": path, "drop": ["note"], "one_hot": ["rock"], "test_share": 0.1}
    dataset = load_dataset(DataOptions.model_validate(data))
    assert [column.name for column in dataset.columns] == ["depth", "rock"]


@pytest.mark.parametrize("title", ["Wells of the north,,", ",Wells of the north,"])
def test_a_title_above_the_names_is_refused_and_no_table_of_one_column(tmp_path: Path, title: str) -> None:
    message = refused(written(tmp_path / "t.csv", title, ",,", "depth,flow,rock", *LINES))
    assert "columns without a name hold values" in message
    assert "remove the lines above the names" in message


@pytest.mark.parametrize("name", ["", " ", "Unnamed: 1", "Unnamed: 1_level_0"])
@pytest.mark.parametrize("values", ["a note", "{}7"])
def test_a_column_without_a_name_among_many_is_left_out(tmp_path: Path, name: str, values: str) -> None:
    lines = (line.replace(",", f",{values.format(row % 7)},", 1) for row, line in enumerate(LINES))
    inspection = inspect(written(tmp_path / "t.csv", f"depth,{name},flow,rock", *lines))
    assert [column.name for column in inspection.load().columns] == ["depth", "flow", "rock"]
    assert inspection.left_out == {name: "has no name"}


def test_rows_with_names_of_their_own_below_a_line_without_one_are_told_what_to_write(tmp_path: Path) -> None:
    rows = [f"row {row},{line}" for row, line in enumerate(LINES)]
    assert "begin the first line with a separator" in refused(
        written(tmp_path / "t.csv", "depth,flow,rock", *rows)
    )
    inspection = inspect(written(tmp_path / "named.csv", ",depth,flow,rock", *rows))
    assert inspection.left_out == {"": "has no name"}


@pytest.mark.parametrize("first", ["# made by a logger", "sep=,", "Wells"])
def test_a_first_line_that_is_no_name_is_shown(tmp_path: Path, first: str) -> None:
    message = refused(written(tmp_path / "t.csv", first, "depth,flow,rock", *LINES))
    assert f"If {first.rstrip(',')!r} is no name of a column, remove its line" in message


def test_a_table_without_names_is_refused_whatever_its_columns_hold(tmp_path: Path) -> None:
    message = refused(written(tmp_path / "t.csv", *LINES))
    assert "looks like a row and not like names of columns" in message
    dated = [f"2024-01-0{number % 9 + 1},{line}" for number, line in enumerate(LINES)]
    assert "looks like a row" in refused(written(tmp_path / "t.csv", *dated))


def test_names_that_are_numbers_are_names_beside_others(tmp_path: Path) -> None:
    path = written(tmp_path / "t.csv", "400.5,401.0,rock", *LINES)
    assert [column.name for column in inspect(path).load().columns] == ["400.5", "401.0", "rock"]


def test_rows_without_a_known_separator_are_told_what_to_write(tmp_path: Path) -> None:
    path = written(tmp_path / "t.csv", "depth flow rock", *(line.replace(",", "  ") for line in LINES))
    assert "commas, semicolons, tabs or bars between them" in refused(path)


@pytest.mark.parametrize("value", [1e300, -1e39, "inf"])
def test_a_number_that_float32_cannot_hold_is_named_with_its_column(value: object) -> None:
    with pytest.raises(Unfit) as caught:
        features_of(
            {"depth": [1, value], "flow": [1, 2]}, TableForm({"depth": (), "flow": ()}), pointer="/rows"
        )
    assert "the column `depth` is" in str(caught.value)
    assert "in row 1, wanted numbers that are finite in float32" in str(caught.value)
    assert [(flaw.pointer, flaw.row) for flaw in caught.value.flaws] == [("/rows/1/depth", 1)]
