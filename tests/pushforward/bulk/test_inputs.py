"""Every kind of input gives the rows that it holds, by any pieces in which it is read."""

from __future__ import annotations

import contextlib
import csv
import gzip
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from pushforward.bulk import csv as bulk_csv
from pushforward.bulk.failures import BulkError, BulkMistake, UnfitInput, UnreadableInput
from pushforward.bulk.opening import open_source
from pushforward.bulk.rows import RowForm
from service.format.columns import Column
from service.media.tables.sources import open_table, whole
from tests.pushforward.bulk.work import hashes, work
from tests.training.data.own_data import load, stacked
from tests.training.data.table_forms import FORMS, ONE_HOT

PICTURE = RowForm((1, 2, 3), "unit_interval")
POINT = RowForm((2,), "real")
TABLE = RowForm(
    (4,), "real", (Column(name="height"), Column(name="colour", categories=("red", "green", "blue")))
)
COLOURS = np.array(["red", "green", "blue"])


def records(count: int, seed: int = 0) -> tuple[list[float], list[str], np.ndarray]:
    """Heights and colours, and the items (count, 4) that they mean."""
    random = np.random.default_rng(seed)
    heights, codes = random.normal(170, 9, count), random.integers(0, 3, count)
    items = np.concatenate([heights[:, None], np.eye(3)[codes]], axis=1).astype(np.float32)
    return heights.tolist(), COLOURS[codes].tolist(), items


def read_in_pieces(location: Path, form: RowForm, sizes: tuple[int, ...], column: str = "") -> np.ndarray:
    """All rows of a source, read forward by pieces of these sizes in turn."""
    source = open_source(str(location), form, column)
    source = pickle.loads(pickle.dumps(source))
    pieces, start, turn = [], 0, 0
    with contextlib.closing(source):
        while start < source.rows:
            stop = min(start + sizes[turn % len(sizes)], source.rows)
            pieces.append(source.read(start, stop).values)
            start, turn = stop, turn + 1
        again = source.read(0, 1).values  # backward
    np.testing.assert_array_equal(again, pieces[0][:1])
    return np.concatenate(pieces)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64, np.bool_, ">f4", np.int64])
def test_npy_is_read_by_the_rule_of_its_type(tmp_path: Path, dtype: Any) -> None:
    values = np.random.default_rng(0).integers(0, 2, (100, 2, 3)).astype(dtype)
    np.save(tmp_path / "x.npy", values)
    expected = values.astype(np.float32)[:, None] / (np.float32(255) if dtype is np.uint8 else np.float32(1))
    np.testing.assert_array_equal(read_in_pieces(tmp_path / "x.npy", PICTURE, (7, 30)), expected)


def test_a_file_that_changes_while_its_rows_are_read_is_refused(tmp_path: Path) -> None:
    rows = np.zeros((9, 2), np.float32)
    np.save(tmp_path / "x.npy", rows)
    with contextlib.closing(open_source(str(tmp_path / "x.npy"), POINT, "")) as source:
        np.testing.assert_array_equal(source.read(0, 4).values, rows[:4])
        np.save(tmp_path / "x.npy", rows + 1)
        with pytest.raises(BulkMistake, match="has changed since the work began"):
            source.read(4, 9)


def test_files_of_a_folder_follow_each_other_by_name(tmp_path: Path) -> None:
    points = np.random.default_rng(0).normal(size=(90, 2)).astype(np.float32)
    for index, piece in enumerate(np.split(points, [20, 20, 75])):
        np.save(tmp_path / f"{index}.npy", piece)
    (tmp_path / "_notes.txt").write_text("left out")
    np.testing.assert_array_equal(read_in_pieces(tmp_path, POINT, (11, 64)), points)


def test_columns_without_a_name_are_left_out_of_a_table(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("height,colour,,\n170,red,,\n180,blue,x,\n")
    read = read_in_pieces(tmp_path / "x.csv", TABLE, (1,))
    np.testing.assert_array_equal(read, [[170, 1, 0, 0], [180, 0, 0, 1]])


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_csv_is_read_by_the_names_of_its_columns(tmp_path: Path, line_end: str) -> None:
    heights, colours, items = records(3_000)
    path = tmp_path / "x.csv"
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.writer(file, lineterminator=line_end)
        writer.writerow(["note, quoted", "colour", "height"])
        for index, (height, colour) in enumerate(zip(heights, colours, strict=True)):
            note = f'a "quoted"{line_end}note, of lines' if index % 7 == 0 else str(index)
            writer.writerow([note, colour, repr(height)])
            file.write(line_end if index % 5 == 0 else "")  # empty lines are no records
    np.testing.assert_array_equal(read_in_pieces(path, TABLE, (100, 1_300, 1)), items)
    path.write_bytes(path.read_bytes().rstrip())  # the last line without an end
    np.testing.assert_array_equal(read_in_pieces(path, TABLE, (2_999,)), items)


CELLS = st.sampled_from(["", "", "", " ", '""', "1", '"2"', "-3.5"])
LINES = st.lists(st.tuples(CELLS, CELLS) | st.just(()), max_size=12)


@given(
    lines=LINES, line_end=st.sampled_from(["\n", "\r\n"]), is_ended=st.booleans(), block=st.integers(1, 40)
)
def test_blank_rows_at_the_end_of_a_text_are_none_for_all_readers_and_those_amid_it_are(
    tmp_path_factory: pytest.TempPathFactory,
    lines: list[tuple[str, ...]],
    line_end: str,
    is_ended: bool,
    block: int,
) -> None:
    path = tmp_path_factory.mktemp("blank") / "x.csv"
    text = line_end.join(["a,b", *map(",".join, lines)]) + line_end * is_ended
    path.write_bytes(text.encode())
    values = [[cell.strip(' "') for cell in line] for line in lines if line]
    while values and not any(values[-1]):
        values.pop()
    expected = np.array([[float(cell or "nan") for cell in line] for line in values], np.float32)
    table = whole(open_table(path))
    read = [[cell.strip() for cell in row] for row in zip(table["a"], table["b"], strict=True)]
    assert read == values
    form = RowForm((2,), "real", (Column(name="a"), Column(name="b")), takes_missing=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bulk_csv, "_BLOCK_BYTES", block)
        patch.setattr(bulk_csv, "_TAIL_BYTES", 3)
        patch.setattr(bulk_csv, "_STRIDE", 2)
        if values:
            np.testing.assert_array_equal(read_in_pieces(path, form, (1, 3)), expected)
        else:
            with pytest.raises(BulkError, match="has no rows"):
                open_source(str(path), form)


def test_csv_with_truth_values_is_read_as_training_reads_it(tmp_path: Path) -> None:
    (tmp_path / "x.tsv").write_text("a\tb\n1\ttrue\n2.5\tfalse\n")
    np.testing.assert_array_equal(read_in_pieces(tmp_path / "x.tsv", POINT, (2,)), [[1, 1], [2.5, 0]])


@pytest.mark.parametrize("name", sorted(FORMS.keys() - {"t.zip"}))  # whose name does not say what is inside
def test_a_table_in_any_form_is_read_as_training_reads_it(tmp_path: Path, name: str) -> None:
    FORMS[name](tmp_path / name)
    dataset = load("table", tmp_path / name, **ONE_HOT)
    form = RowForm(dataset.item_shape, "real", tuple(dataset.columns), takes_missing=True)
    rows = read_in_pieces(tmp_path / name, form, (7, 20))
    assert sorted(rows.tolist()) == sorted(stacked(dataset).tolist())


def test_missing_values_are_missing_whatever_stands_for_them(tmp_path: Path) -> None:
    columns = (
        Column(name="height", codes=(-999, "low")),
        Column(name="colour", categories=("red", "other"), unseen="other"),
    )
    form = RowForm((3,), "real", columns, takes_missing=True)
    (tmp_path / "x.csv").write_text("colour,height\nred,1\n,-999\nNA,low\nmauve,NA\nred,true\n")
    nan = np.nan
    expected = [[1, 1, 0], [nan, nan, nan], [nan, nan, nan], [nan, 0, 1], [1, 1, 0]]
    np.testing.assert_array_equal(
        read_in_pieces(tmp_path / "x.csv", form, (1, 3)), np.array(expected, np.float32)
    )
    heights, colours = [1.0, -999.0, None, None, 1.0], ["red", "", None, "mauve", "red"]
    parquet.write_table(pyarrow.table({"height": heights, "colour": colours}), tmp_path / "x.parquet")
    np.testing.assert_array_equal(
        read_in_pieces(tmp_path / "x.parquet", form, (2,)), np.array(expected, np.float32)
    )


def test_decimal_commas_are_read_beside_texts_that_stand_for_missing_values(tmp_path: Path) -> None:
    form = RowForm((2,), "real", (Column(name="a", codes=("low",)), Column(name="b")), takes_missing=True)
    (tmp_path / "x.csv").write_text("a;b\n1,5;2,25\nlow;true\n")
    expected = np.array([[1.5, 2.25], [np.nan, 1]], np.float32)
    np.testing.assert_array_equal(read_in_pieces(tmp_path / "x.csv", form, (1,)), expected)


def test_a_compressed_file_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    content = gzip.compress("".join(f"{row},{row}\n" for row in range(10_000)).encode())
    (tmp_path / "x.csv.gz").write_bytes(content[:-100])
    with pytest.raises(UnreadableInput, match="cannot be read"):
        open_source(str(tmp_path / "x.csv.gz"), POINT)


def test_parquet_is_read_across_row_groups_and_partitions(tmp_path: Path) -> None:
    expected = []
    for colour in COLOURS:
        heights, _, items = records(700, seed=len(colour))
        folder = tmp_path / f"colour={colour}"
        folder.mkdir()
        table = pyarrow.table({"note": ["x"] * 700, "height": heights})
        parquet.write_table(table, folder / "0.parquet", row_group_size=300)
        items[:, 1:] = np.eye(3)[COLOURS.tolist().index(colour)]
        expected.append((str(folder), items))
    items = np.concatenate([items for _, items in sorted(expected, key=lambda pair: pair[0])])
    np.testing.assert_array_equal(read_in_pieces(tmp_path, TABLE, (1, 50, 301, 900)), items)


@pytest.mark.parametrize("fixed", [True, False])
def test_parquet_holds_rows_in_lists_or_in_columns(tmp_path: Path, fixed: bool) -> None:
    points = np.random.default_rng(0).normal(size=(500, 2)).astype(np.float32)
    kind = pyarrow.list_(pyarrow.float32(), 2) if fixed else pyarrow.list_(pyarrow.float32())
    lists = {"p": pyarrow.array(points.tolist(), kind), "q": pyarrow.array((2 * points).tolist(), kind)}
    parquet.write_table(pyarrow.table(lists), tmp_path / "lists.parquet", row_group_size=64)
    parquet.write_table(pyarrow.table({"x": points[:, 0], "y": points[:, 1]}), tmp_path / "columns.parquet")
    np.testing.assert_array_equal(read_in_pieces(tmp_path / "columns.parquet", POINT, (99,)), points)
    np.testing.assert_array_equal(read_in_pieces(tmp_path / "lists.parquet", POINT, (99,), "q"), 2 * points)
    with pytest.raises(BulkMistake, match="several columns of lists, `p`, `q`; name one with --column"):
        open_source(str(tmp_path / "lists.parquet"), POINT)


def test_a_shard_that_skips_parts_reads_the_same_rows(tmp_path: Path) -> None:
    points = np.arange(4_000, dtype=np.float32).reshape(-1, 2)
    table = pyarrow.table({"x": points[:, 0], "y": points[:, 1]})
    parquet.write_table(table, tmp_path / "x.parquet", row_group_size=700)
    source = open_source(str(tmp_path / "x.parquet"), POINT)
    for start in range(0, 2_000, 300):
        stop = min(start + 100, 2_000)
        np.testing.assert_array_equal(source.read(start, stop).values, points[start:stop])
    source.close()


@pytest.mark.parametrize(
    ("name", "content", "form", "said"),
    [
        ("x.csv", "height,color\n1,red\n", TABLE, "lacks `colour` .is it `color`"),
        ("x.csv", "height,colour,height\n1,red,2\n", TABLE, "'height' is there 2 times"),
        (
            "x.csv",
            "height,colour\n1,mauve\n",
            TABLE,
            "1 values that are none of its categories, the first in row 0",
        ),
        (
            "x.csv",
            "height,colour\n1,red\n,red\n",
            TABLE,
            "the column `height` is empty in row 1, where the model needs",
        ),
        (
            "x.csv",
            "height,colour\ntall,red\n",
            TABLE,
            "the column `height` holds 'tall' in row 0; wanted numbers",
        ),
        ("x.csv", 'height,colour\n"1,red\n', TABLE, "ends inside of quotes"),
        ("x.csv", "height,colour\r1,red\r", TABLE, "carriage returns alone"),
        ("x.csv", "", TABLE, "is empty"),
        ("x.csv", "height|colour;\n1,5\n", TABLE, "'height|colour;', so something else than ','"),
        ("x.csv", "a,b,c\n1,2,3\n", POINT, "3 columns of numbers, `a`, `b`, `c`; a row of this model has 2"),
        ("x.parquet", "PAR1", POINT, "is not a Parquet file"),
        ("x.npy", "x", POINT, "is not an npy file"),
        ("x.xlsx", "x", POINT, r"files ending in \.xlsx are not read; wanted \.npy"),
    ],
)
def test_what_cannot_be_read_is_refused_with_what_to_do(
    tmp_path: Path, name: str, content: str, form: RowForm, said: str
) -> None:
    (tmp_path / name).write_text(content, newline="")
    with pytest.raises(BulkError, match=said) as refused:
        read_in_pieces(tmp_path / name, form, (10,))
    assert isinstance(refused.value, BulkMistake | UnfitInput)
    assert refused.value.status == 2


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.zeros((5, 2, 3, 1), np.float32), "put channels first"),
        (np.zeros((5, 6), np.float32), r"save items\.reshape\(-1, 1, 2, 3\)"),
        (np.zeros((5, 4), np.float32), r"rows of shape \[4\]; wanted \[rows, 1, 2, 3\]"),
        (np.zeros((0, 2, 3), np.float32), "has no rows"),
        (np.zeros((5, 2, 3), np.complex64), "holds complex64, not numbers"),
        (np.asfortranarray(np.zeros((5, 2, 3))), "Fortran order"),
        (np.array([{}]), "holds Python objects"),
    ],
)
def test_arrays_of_another_form_are_refused_with_what_to_do(
    tmp_path: Path, array: np.ndarray, said: str
) -> None:
    np.save(tmp_path / "x.npy", array)
    with pytest.raises(BulkMistake, match=said):
        open_source(str(tmp_path / "x.npy"), PICTURE)


def test_a_file_cut_short_and_a_folder_of_several_kinds_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((5, 2)))
    whole = (tmp_path / "x.npy").read_bytes()
    (tmp_path / "x.npy").write_bytes(whole[:-8])
    with pytest.raises(BulkMistake, match="was not written to its end"):
        open_source(str(tmp_path / "x.npy"), POINT)
    (tmp_path / "x.csv").write_text("a,b\n1,2\n")
    with pytest.raises(BulkMistake, match=r"several kinds: \.csv, \.npy"):
        open_source(str(tmp_path), POINT)
    with pytest.raises(BulkMistake, match="no such file or folder"):
        open_source(str(tmp_path / "nothing"), POINT)


def test_a_url_is_read_and_written_as_a_path_is(bulk_models: Path, digits: Path, tmp_path: Path) -> None:
    plain, url = tmp_path / "plain", tmp_path / "by-url"
    work("encode", bulk_models, "digits-vae", plain, input=str(digits), part_rows=300)
    options = {"input": f"file://{digits}", "part_rows": 300}
    report = work("encode", bulk_models, "digits-vae", f"file://{url}", **options)
    assert report.complete
    parts_only = [
        {name: value for name, value in hashes(out).items() if name.startswith("part-")}
        for out in (plain, url)
    ]
    assert parts_only[0] == parts_only[1]
    assert len(parts_only[0]) == 4
    assert work("encode", bulk_models, "digits-vae", f"file://{url}", **options).there == 4
