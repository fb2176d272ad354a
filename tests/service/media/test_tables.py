"""Rows of tables, written as CSV and read again."""

import csv
import io
import subprocess
import sys
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from service.errors import LimitExceeded, Malformed, Unfit
from service.media.tables.bounds import TableBounds, check_parquet
from service.media.tables.cells import ABSENT, UNKNOWN, Places, numbers_of, texts_of
from service.media.tables.matching import TableForm, features_of
from service.media.tables.sources import table_of
from service.media.tables.writing import columns_of, csv_text

BOUNDS = TableBounds(rows=1_000, row_characters=2**16, footer_bytes=2**16, page_bytes=2**20)
FORM = TableForm({"height": (), "colour": ("red", "green"), "weight": ()})


def test_rows_that_lack_values_read_the_same_again() -> None:
    items = np.array([[1.5, 0, 1, np.nan], [np.nan, np.nan, np.nan, -0.1], [3e-7, 1, 0, 2]], np.float32)
    text = csv_text(columns_of(items, FORM.columns)).encode()
    blocks = [dict(block) for block in table_of(lambda: io.BytesIO(text), ".csv").blocks(100)]
    np.testing.assert_array_equal(features_of(blocks[0], FORM), items)


@pytest.mark.parametrize("kind", [np.float32, np.float64, list])
def test_a_number_that_is_not_there_is_an_empty_cell(kind: Any) -> None:
    known, none = np.array([0.5]), np.array([np.nan])
    column = [0.5, None] if kind is list else np.concatenate([known, none]).astype(kind)
    assert csv_text({"a": column, "b": [1, 2]}) == "a,b\n0.5,1\n,2\n"


def test_draws_of_whole_numbers_and_truth_values_are_such_also_where_they_are_categories() -> None:
    drawn = np.array([[42, 0, 1, 0, 0.5, 0, 1, 0], [-3, 1, 0, 0, 7, 1, 0, 0]], np.float32)
    columns = {"age": (), "grade": ("1", "20", "other"), "length": (), "old": ("false", "true", "other")}
    table = columns_of(drawn, columns, whole={"age", "grade", "old"})
    assert [table[name].dtype for name in columns] == [np.int64, np.int64, np.float32, np.bool_]
    assert [table[name].tolist() for name in columns] == [[42, -3], [20, 1], [0.5, 7], [True, False]]


def test_truth_values_are_the_same_beside_values_that_are_missing() -> None:
    column, none = pa.array([True, False]), pa.array([None], pa.bool_())
    beside = pa.chunked_array([column, none]).combine_chunks()
    assert texts_of(column) == ["true", "false"]
    assert texts_of(beside) == ["true", "false", None]
    np.testing.assert_array_equal(numbers_of(beside).values, [1, 0, np.nan])


def test_blanks_around_a_category_are_none_of_it_unless_categories_differ_by_them() -> None:
    assert Places(["red", "green"]).find(["red ", " green", "re d", "red"]).tolist() == [0, 1, UNKNOWN, 0]
    assert Places(["red", "red "]).find(["red ", "red", " red"]).tolist() == [1, 0, UNKNOWN]


def test_numbers_are_written_in_plain_digits_that_read_back_the_same() -> None:
    written = {"1000025": 1_000_025, "5": 5, "0.1": 0.1, "12345678000000": 12_345_678e6, "3e-07": 3e-7}
    values = np.array([*written.values()], np.float32)
    assert csv_text({"a": values}).split() == ["a", *written]
    random = np.random.default_rng(0)
    values = (random.normal(size=2000) * 10.0 ** random.integers(-30, 30, 2000)).astype(np.float32)
    again = csv_text({"a": values}, with_names=False).split()
    np.testing.assert_array_equal(np.array(again, np.float32), values)


@pytest.mark.parametrize("blank", [b" \n", b" \n\t\n", b",\n"])
def test_blank_lines_of_a_request_are_held_up_to_the_rows_that_it_may_have(blank: bytes) -> None:
    body = b"height,weight\n1,2\n" + blank * 2_000
    with pytest.raises(LimitExceeded, match="more than 1000 blank lines"):
        list(table_of(lambda: io.BytesIO(body), ".csv", bounds=BOUNDS).blocks())
    (block,) = table_of(lambda: io.BytesIO(body), ".csv").blocks()
    assert dict(block) == {"height": ["1"], "weight": ["2"]}


def as_parquet(**options: object) -> bytes:
    file = io.BytesIO()
    columns = {"height": [1.5, None, 2.0], "colour": ["red", "green", "red"]}
    parquet.write_table(pa.table(columns), file, **{"store_schema": False} | options)
    return file.getvalue()


@pytest.mark.parametrize("compression", ["none", "snappy", "zstd", "gzip"])
@pytest.mark.parametrize("version", ["1.0", "2.0"])
def test_a_parquet_within_its_bounds_is_read_with_dictionaries_of_text(
    compression: str, version: str
) -> None:
    body = as_parquet(compression=compression, data_page_version=version, store_schema=True)
    assert check_parquet(body, BOUNDS) == ["colour"]
    block = next(iter(table_of(lambda: io.BytesIO(body), ".parquet", bounds=BOUNDS).blocks()))
    np.testing.assert_array_equal(features_of({**block, "weight": [1, 2, 3]}, FORM)[:, 1], [1, 0, 1])
    plain = as_parquet(compression=compression, data_page_version=version, use_dictionary=False)
    assert check_parquet(plain, BOUNDS) == []


def test_a_column_that_is_larger_than_it_looks_is_refused() -> None:
    with pytest.raises(Unfit, match="DELTA_BYTE_ARRAY"):
        check_parquet(
            as_parquet(use_dictionary=False, column_encoding={"colour": "DELTA_BYTE_ARRAY"}), BOUNDS
        )
    with pytest.raises(Malformed, match="PAR1"):
        check_parquet(as_parquet()[:-1], BOUNDS)


@pytest.mark.parametrize("encoding", ["PLAIN", "DELTA_BYTE_ARRAY"])
def test_columns_that_are_not_wanted_may_hold_anything(encoding: str) -> None:
    table = pa.table(
        {
            "height": [1.5, 2.0],
            "tags": [["a", "b"], []],
            "place": [{"x": 1.0, "names": ["a"]}, None],
            "note": ["a" * 99, "b"],
            "digest": pa.array([b"x" * 99, b"y" * 99], pa.binary(99)),
        }
    )
    file = io.BytesIO()
    parquet.write_table(table, file, use_dictionary=False, column_encoding={"note": encoding})
    body = file.getvalue()
    read = table_of(lambda: io.BytesIO(body), ".parquet", wanted={"height"}, bounds=BOUNDS)
    assert read.names == table.column_names
    assert [(*block, block["height"].to_pylist()) for block in read.blocks()] == [("height", [1.5, 2.0])]
    for wanted in ("tags", "place", "digest", *(["note"] if encoding != "PLAIN" else [])):
        with pytest.raises(Unfit):
            table_of(lambda: io.BytesIO(body), ".parquet", wanted={"height", wanted}, bounds=BOUNDS)


@pytest.mark.parametrize("use_dictionary", [True, False])
def test_a_parquet_whose_texts_are_not_utf_8_is_refused(use_dictionary: bool) -> None:
    body = as_parquet(compression="none", use_dictionary=use_dictionary, write_statistics=False)
    damaged = body.replace(b"green", b"gr\x8cen")
    assert damaged != body
    table = table_of(lambda: io.BytesIO(damaged), ".parquet", bounds=BOUNDS)
    with pytest.raises(Malformed, match="UTF8"):
        list(table.blocks())


CHANGED = """
import io, sys
from service.errors import ServiceError
from service.media.tables.bounds import TableBounds
from service.media.tables.sources import table_of
bounds, body = TableBounds(9_999, 9_999, 9_999, 9_999), bytearray(sys.stdin.buffer.read())
for place in range(len(body) - 8 - int.from_bytes(body[-8:-4], "little"), len(body)):
    for change in (1, 8, 255):
        body[place] ^= change
        data = bytes(body)
        try:
            table = table_of(lambda: io.BytesIO(data), ".parquet", wanted=sys.argv[1:], bounds=bounds)
            for _ in table.blocks(64):
                pass
        except ServiceError:
            pass
        body[place] ^= change
"""


@pytest.mark.parametrize("wanted", [(), ("height",)])
def test_a_footer_that_is_changed_anywhere_is_read_or_refused_and_ends_no_process(
    wanted: tuple[str, ...],
) -> None:
    """pyarrow ends a process that asks it about a column whose statistics of sizes are damaged."""
    body = as_parquet()
    if wanted:
        file = io.BytesIO()
        parquet.write_table(
            pa.table({"height": [1.5, 2.0], "tags": [["a", "b"], []]}), file, store_schema=False
        )
        body = file.getvalue()
    done = subprocess.run([sys.executable, "-c", CHANGED, *wanted], input=body, capture_output=True)
    assert done.returncode == 0, done.stderr[-2_000:]


@pytest.mark.parametrize("bounds", [None, BOUNDS])
@pytest.mark.parametrize("last", ['"', '3,"', '3,"a', '3,"a\n', '3,"a\n4,b\n5,c\n', '"end,end', '3,"a""'])
def test_a_quote_that_is_left_open_is_refused_and_takes_no_rows(
    last: str, bounds: TableBounds | None
) -> None:
    text = f"a,b\n1,x\n\n2,y\n{last}".encode()
    with pytest.raises(Malformed, match="a quote is left open in the row that begins after line 4"):
        list(table_of(lambda: io.BytesIO(text), ".csv", bounds=bounds).blocks())


@pytest.mark.parametrize(
    "last", ["", "\n", "\n\n", "\nend,end", '\n"end","end"\n', '\n"a\nb",""\n', '\na""",b"']
)
def test_a_text_ends_where_it_ends(last: str) -> None:
    text = f"a,b\n1,x{last}".encode()
    (block,) = table_of(lambda: io.BytesIO(text), ".csv").blocks()
    rows = list(csv.reader(io.StringIO(text.decode(), newline="")))
    assert [*zip(*block.values(), strict=True)] == [tuple(row) for row in rows[1:] if row]


@pytest.mark.parametrize("code", [-99.9, 1e20])
@pytest.mark.parametrize(
    "column", [np.array, pa.array, lambda values: pa.array([*values, None]), lambda values: values.tolist()]
)
def test_a_code_of_a_missing_number_is_found_in_every_precision(code: float, column: Any) -> None:
    for kind in (np.float32, np.float64):
        values = np.array([code, 1], kind)
        if kind is np.float32 and isinstance(column(values), list):
            continue  # which is of float64
        assert np.isnan(numbers_of(column(values), codes=(code,)).values).tolist()[:2] == [True, False]
    near = np.array([np.nextafter(code, 0)])
    assert not np.isnan(numbers_of(near, codes=(code,)).values).any()


def test_a_number_as_the_code_of_a_missing_category_is_found_however_it_is_written() -> None:
    form = TableForm({"grade": ("1", "2", "other")}, codes={"grade": (9.0, "?")}, unseen={"grade": "other"})
    for values in (["1", "9", "9.0", "09", "9e0", "?", "8.0"], np.array([1, 9, 9, 9, 9, np.nan, 8])):
        rows = features_of({"grade": values}, form)
        assert np.isnan(rows).any(axis=1).tolist() == [False, True, True, True, True, True, False]
    form = TableForm({"grade": ("0", "1")}, codes={"grade": ("00", 1.0)})  # exact texts come first
    np.testing.assert_array_equal(
        features_of({"grade": ["0", "0.0", "00"]}, form), [[1, 0], [1, 0], [np.nan, np.nan]]
    )


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize(
    "column",
    [
        np.array,
        pa.array,
        lambda values: pa.array([*values, None]),
        lambda values: pa.DictionaryArray.from_arrays(np.arange(len(values)), values),
    ],
)
def test_a_category_of_numbers_has_its_shortest_decimal_in_every_precision(kind: Any, column: Any) -> None:
    values = np.array([0.1, 2.5, 3, 1e4, 0.007], kind)
    assert texts_of(column(values))[:5] == ["0.1", "2.5", "3", "10000", "0.007"]


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("column", [np.array, pa.array])
def test_a_time_is_the_category_of_its_text(unit: str, column: Any) -> None:
    times = column(np.array(["2024-01-02", "2024-01-02T03:04:05", "NaT"], f"M8[{unit}]"))
    written = (["2024-01-02", "2024-01-02 03:04:05"], ["2024-01-02 00:00:00", "2024-01-02T03:04:05.000"])
    for categories in written:
        assert Places(categories).find(texts_of(times)).tolist() == [0, 1, ABSENT]
        assert Places([str(text) for text in texts_of(times[:2])]).find(categories).tolist() == [0, 1]
    midnight = pa.array(["2024-01-02", "2024-01-03"]).cast(pa.date32())
    assert Places(["2024-01-02 00:00:00"]).find(texts_of(midnight)).tolist() == [0, UNKNOWN]
    assert Places(["2024-01-02"]).find(["2024-01-02 00:00:00+01:00", "2024-01-0x"]).tolist() == [UNKNOWN] * 2
