"""Arrays, tables and pictures become the items that they stand for, or are refused with a reason."""

import csv
import decimal
import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from PIL import Image

from pushforward.reading import as_point, as_rows, ids_of, labels_in
from service.errors import Unfit
from service.media import codecs
from service.media.fitting import item_of_file
from service.media.tables.matching import ClassColumn
from tests.serving import as_npy

GREY, RGB, FEATURES = (1, 4, 6), (3, 4, 6), (3,)
COLUMNS = [
    {"name": "height", "categories": []},
    {"name": "colour", "categories": ["red", "green"]},
]
TABLE = {"colour": ["green", "red"], "height": [1.5, 2], "other": ["a", "b"]}
ROWS = np.array([[1.5, 0, 1], [2, 1, 0]], np.float32)
random = np.random.default_rng(0)
numbers: st.SearchStrategy[NDArray[Any]] = st.sampled_from(["f4", "f8", "i8", "i2", "u1", "?"]).flatmap(
    lambda kind: arrays(np.dtype(kind), st.tuples(st.integers(1, 4), st.just(3)))
)


@given(numbers)
def test_numbers_of_any_type_are_read_as_the_service_reads_them(array: NDArray[Any]) -> None:
    wanted = array.astype("u1") if array.dtype == bool else array
    expected = codecs.from_npy(as_npy(wanted), FEATURES, 100, "inputs")
    rows = as_rows(array, FEATURES)
    assert rows.dtype == np.float32
    assert rows.flags.c_contiguous
    np.testing.assert_array_equal(rows, expected)


@pytest.mark.parametrize(
    "given",
    [[[1, 2, 3], [4, 5, 6]], [(1, 2, 3), (4.0, 5, 6)], np.arange(1.0, 7).reshape(3, 2).T],
    ids=str,
)
def test_lists_and_any_order_in_memory_are_read(given: Any) -> None:
    assert as_rows(given, FEATURES).shape == (2, 3)


def test_what_a_masked_array_hides_is_missing() -> None:
    heights = np.ma.masked_equal([1.5, -9999], -9999)
    rows = as_rows(np.ma.masked_equal(ROWS, 1.5), FEATURES)
    np.testing.assert_array_equal(rows, [[np.nan, 0, 1], [2, 1, 0]])
    table = as_rows({"height": heights, "colour": ["green", "red"]}, FEATURES, COLUMNS)
    np.testing.assert_array_equal(table, [[1.5, 0, 1], [np.nan, 1, 0]])
    for kinds, values in ((["red", "green"], ["green", "red"]), (["False", "True"], [True, False])):
        column = {"name": "kind", "categories": kinds}
        rows = as_rows({"kind": np.ma.masked_array(values, [False, True])}, (2,), [column])
        np.testing.assert_array_equal(rows, [[0, 1], [np.nan, np.nan]])
    pixels = random.integers(2, 256, (2, 4, 6), np.uint8)
    np.testing.assert_array_equal(as_rows(np.ma.masked_array(pixels), GREY), as_rows(pixels, GREY))


def test_one_item_is_a_batch_of_one() -> None:
    np.testing.assert_array_equal(as_rows([1, 2, 3], FEATURES), [[1, 2, 3]])


def test_pixels_of_uint8_are_0_to_255_and_bool_is_0_and_1() -> None:
    pixels = random.integers(0, 256, (5, *GREY), np.uint8)
    np.testing.assert_array_equal(as_rows(pixels, GREY), pixels.astype("f4") / np.float32(255))
    flags = pixels > 100
    np.testing.assert_array_equal(as_rows(flags, GREY), flags.astype("f4"))
    np.testing.assert_array_equal(as_rows(pixels[:, 0, 0, :3], FEATURES), pixels[:, 0, 0, :3].astype("f4"))


def test_uint8_that_may_be_pixels_or_zeros_and_ones_is_refused_with_both_readings() -> None:
    with pytest.raises(Unfit, match=r"nearly black .* or zeros and ones; give .*astype\(bool\)"):
        as_rows(np.eye(4, 6, dtype=np.uint8), GREY)
    assert not as_rows(np.zeros(GREY, np.uint8), GREY).any()


@pytest.mark.parametrize("shape", [(4, 6), (1, 4, 6), (5, 4, 6), (5, 1, 4, 6)])
def test_grey_pictures_may_lack_the_axis_of_their_channel(shape: tuple[int, ...]) -> None:
    array = random.random(shape, np.float32)
    np.testing.assert_array_equal(as_rows(array, GREY), array.reshape(-1, *GREY))


@pytest.mark.parametrize(
    ("given", "shape", "message"),
    [
        (np.zeros((5, 6, 4)), GREY, r"shape \[5, 6, 4\]; wanted \[rows, 1, 4, 6\]"),
        (np.zeros((5, 4, 6, 3)), RGB, "channels first"),
        (np.zeros((0, 3)), FEATURES, "at least one row"),
        ([[1, 2], [3]], FEATURES, "ragged"),
        ([["a", "b", "c"]], FEATURES, "of numbers"),
        (np.zeros((2, 3), complex), FEATURES, "complex128"),
        (None, FEATURES, "NoneType"),
        (np.ma.masked_equal([["a", "b"]], "b"), FEATURES, "wanted \\[rows, 3\\]"),
        ((each for each in ROWS), FEATURES, "a generator came, .*give a list of them"),
        (TABLE, FEATURES, "no named columns"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_came_and_what_was_wanted(
    given: Any, shape: tuple[int, ...], message: str
) -> None:
    with pytest.raises(Unfit, match=message):
        as_rows(given, shape)


def arrow(table: dict[str, Any]) -> Any:
    return pyarrow.table({**table, "colour": pyarrow.array(table["colour"]).dictionary_encode()})


def records(table: dict[str, Any]) -> Any:
    return [dict(zip(table, row, strict=True)) for row in zip(*table.values(), strict=True)]


def structured(table: dict[str, Any]) -> Any:
    return np.array(list(zip(*table.values(), strict=True)), [(name, object) for name in table])


@pytest.mark.parametrize("make", [dict, pd.DataFrame, arrow, records, structured])
def test_a_table_is_read_by_the_names_of_its_columns(make: Callable[[Any], Any]) -> None:
    np.testing.assert_array_equal(as_rows(make(TABLE), FEATURES, COLUMNS), ROWS)


@pytest.mark.parametrize("make", [dict, pd.DataFrame, arrow, records, structured])
def test_ids_are_a_column_of_the_table(make: Callable[[Any], Any]) -> None:
    found, name = ids_of(make(TABLE), "other")
    assert found is not None
    assert (found.tolist(), name) == (["a", "b"], "other")
    with pytest.raises(Unfit, match="`nothing`, which the inputs have 0 times"):
        ids_of(make(TABLE), "nothing")


@pytest.mark.parametrize("make", [dict, arrow, records, structured])
def test_a_table_without_an_index_has_no_ids(make: Callable[[Any], Any]) -> None:
    assert ids_of(make(TABLE), None) == (None, None)


@pytest.mark.parametrize("name", ["patient", None])
def test_the_index_of_a_frame_tells_its_rows_apart(name: str | None) -> None:
    ids, found = ids_of(pd.DataFrame(TABLE, index=pd.Index([7, 9], name=name)), None)
    assert ids is not None
    assert (ids.tolist(), found) == ([7, 9], name)


def test_numbers_of_a_table_may_be_decimals_or_text_and_the_missing_are_nan() -> None:
    table = {"height": [decimal.Decimal("1.5"), "2", None], "colour": ["green", "red", "red"]}
    np.testing.assert_array_equal(as_rows(table, FEATURES, COLUMNS)[:, 0], [1.5, 2, np.nan])


def test_categories_are_the_texts_that_training_reads() -> None:
    columns = [{"name": "a", "categories": ["1", "2"]}, {"name": "b", "categories": ["false", "true"]}]
    rows = as_rows({"a": [1.0, 2.0], "b": [True, False]}, (4,), columns)
    np.testing.assert_array_equal(rows, [[1, 0, 0, 1], [0, 1, 1, 0]])


def row_of_frame(record: dict[str, Any]) -> Any:
    return pd.DataFrame([record]).iloc[0]


@pytest.mark.parametrize("of", [lambda record: record, row_of_frame, lambda record: [row_of_frame(record)]])
def test_one_row_by_names_is_a_batch_of_one(of: Callable[[dict[str, Any]], Any]) -> None:
    record = {"colour": "green", "height": np.float64(1.5), "patient": "a"}
    np.testing.assert_array_equal(as_rows(of(record), FEATURES, COLUMNS), ROWS[:1])
    ids, _ = ids_of(of(record), "patient")
    assert ids is not None
    assert ids.tolist() == ["a"]
    classes = ClassColumn("patient", ["b", "a"])
    assert labels_in(of(record), classes) == [1]


@pytest.mark.parametrize("with_nulls", [False, True])
def test_columns_of_arrow_are_read_in_whatever_holds_them(with_nulls: bool) -> None:
    heights = [1.5, None if with_nulls else 2]
    arrays = {"height": pyarrow.array(heights), "colour": pyarrow.array(["green", "red"])}
    table = pyarrow.table(arrays)
    expected = as_rows({"height": heights, "colour": ["green", "red"]}, FEATURES, COLUMNS)
    for held in (arrays, table, table.to_batches()[0], pyarrow.concat_tables([table[:1], table[1:]])):
        np.testing.assert_array_equal(as_rows(held, FEATURES, COLUMNS), expected)
        ids, _ = ids_of(held, "colour")
        assert ids is not None
        assert ids.tolist() == ["green", "red"]


class Lazy:
    """A table that is not computed, whose columns cannot be had."""

    columns = ("height", "colour")

    def __getitem__(self, name: str) -> Any:
        raise TypeError("it is\nlazy")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (Lazy(), "column `height` of a Lazy cannot be read: it is lazy; .*`collect`"),
        (csv.DictReader(io.StringIO("height,colour\n1,red\n")), "a DictReader came, .*give a list of them"),
        (iter([{"height": 1, "colour": "red"}]), "a list_iterator came, .*give a list of them"),
        ([["1.5", "green"]], "of numbers, or a table or records by the names of its columns"),
        ([[1, 2, 3], [4]], "ragged; .*, or a table or records by the names of its columns"),
    ],
)
def test_what_holds_no_columns_is_refused_with_what_to_give(given: Any, message: str) -> None:
    with pytest.raises(Unfit, match=message):
        as_rows(given, FEATURES, COLUMNS)


def test_a_missing_and_a_doubled_column_are_named_in_one_error() -> None:
    frame = pd.DataFrame([["red", "red", "a"]], columns=["colour", "colour", "other"])
    with pytest.raises(
        Unfit, match=r"lacks `height` and has `colour` more than once; it has `colour`, .*`other`"
    ):
        as_rows(frame, FEATURES, COLUMNS)


def test_an_unknown_category_is_refused_with_its_row_and_the_known_ones() -> None:
    with pytest.raises(Unfit, match=r"`colour` has 1 values .* in row 1; it takes `red`, `green`") as raised:
        as_rows({**TABLE, "colour": ["red", "mauve"]}, FEATURES, COLUMNS)
    assert [flaw.row for flaw in raised.value.flaws] == [1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"height": ["tall", "2"]}, "`height` holds 'tall' in row 0; wanted numbers"),
        ({"height": [1, 2, 3]}, "2, 3 rows"),
        ({"height": [[1, 2], [3, 4]]}, "a column has one axis"),
        ({"height": [], "colour": []}, "no rows"),
    ],
)
def test_a_column_that_does_not_fit_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(Unfit, match=message):
        as_rows({**TABLE, **changes}, FEATURES, COLUMNS)


def test_records_may_not_lack_a_column() -> None:
    with pytest.raises(Unfit, match="1 of 2 records lack the column `height`") as raised:
        as_rows([{"height": 1, "colour": "red"}, {"colour": "red"}], FEATURES, COLUMNS)
    assert [flaw.row for flaw in raised.value.flaws] == [1]


def picture(mode: str) -> Image.Image:
    coloured = Image.fromarray(random.integers(0, 256, (4, 6, 3), np.uint8))
    return coloured.convert(mode)


@pytest.mark.parametrize("shape", [GREY, RGB])
@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB"])
def test_a_picture_is_read_as_the_service_reads_its_png(mode: str, shape: tuple[int, ...]) -> None:
    drawn, file = picture(mode), io.BytesIO()
    drawn.save(file, "PNG")
    expected = item_of_file(file, shape).item[None]
    np.testing.assert_array_equal(as_rows(drawn, shape), expected)
    np.testing.assert_array_equal(as_rows([drawn, drawn], shape), np.concatenate([expected, expected]))


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_an_alpha_channel_that_hides_nothing_is_dropped_and_else_refused(mode: str) -> None:
    drawn = picture("RGB")
    np.testing.assert_array_equal(as_rows(drawn.convert(mode), GREY), as_rows(drawn, GREY))
    hidden = drawn.convert(mode)
    hidden.putalpha(100)
    with pytest.raises(Unfit, match="transparent in places"):
        as_rows(hidden, GREY)


@pytest.mark.parametrize(
    ("mode", "shape", "message"),
    [("F", GREY, "mode F"), ("L", (1, 6, 4), "6 x 4 pixels"), ("L", FEATURES, "takes no pictures")],
)
def test_a_picture_that_does_not_fit_is_refused(mode: str, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(Unfit, match=message):
        as_rows(picture(mode), shape)


@pytest.mark.parametrize(
    ("end", "fields"),
    [
        ((7, 3), {"seed": 7, "index": 3}),
        ([1, 2], {"latent": [1, 2]}),
        ((0.5, 2), {"latent": [0.5, 2]}),
        ([1, 2, 3], {"input": [1, 2, 3]}),
        ([[1, 2, 3]], {"input": [1, 2, 3]}),
        ({"input": [1, 2, 3]}, {"input": [1, 2, 3]}),
        ({"seed": 5, "index": 2}, {"seed": 5, "index": 2}),
    ],
)
def test_an_end_of_a_path_is_a_sample_a_latent_or_an_item(end: Any, fields: dict[str, Any]) -> None:
    assert as_point(end, FEATURES, 2, "start") == fields


@pytest.mark.parametrize(
    ("end", "latent_size", "message"),
    [
        ([1, 2, 3], 3, "`start` has 3 numbers, which can be a latent or an item"),
        ([1, 2, 3, 4], 2, r"`start`: the inputs have shape \[4\]"),
        ([[1, 2, 3], [4, 5, 6]], 2, "`start` is one item or latent; 2 came"),
        ([[1], [2, 3]], 2, "`start`: the inputs are ragged"),
        (7, 2, r"`start` is 7; a sample is a pair \(seed, index\), as \(7, 0\)"),
    ],
)
def test_an_end_of_a_path_that_fits_neither_or_both_is_refused(
    end: Any, latent_size: int, message: str
) -> None:
    with pytest.raises(Unfit, match=message):
        as_point(end, FEATURES, latent_size, "start")


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("rows.csv", r"it is no picture; read it, as by pandas\.read_csv, and give the rows"),
        ("rows.tsv.gz", r"as by pandas\.read_table"),
        ("rows.parquet", r"as by pandas\.read_parquet"),
        ("items.npy", r"as by numpy\.load"),
        ("absent.png", "No such file or directory$"),
        ("absent.csv", "No such file or directory$"),
        ("", "it is a folder; give the paths of the pictures in it"),
    ],
)
@pytest.mark.parametrize("shape", [FEATURES, (1, 8, 8)])
def test_the_path_of_what_is_no_picture_is_refused_with_what_reads_it(
    tmp_path: Path, name: str, why: str, shape: tuple[int, ...]
) -> None:
    path = tmp_path / name
    if name and path.stem != "absent":
        path.write_text("a,b,c\n1,2,3\n")
    with pytest.raises(Unfit, match=f"^1 of 1 files are not taken: {re.escape(str(path))}: .*{why}"):
        as_rows(path, shape)
