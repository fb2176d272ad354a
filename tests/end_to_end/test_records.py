"""Rows by the names of their columns: JSON records, CSV and Parquet give the answers of arrays."""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import httpx
import numpy as np
import pyarrow
import pytest
from numpy.typing import NDArray
from pyarrow import parquet

from tests import toy_table as table
from tests.serving import as_npy

MODEL = "/v1/models/toy-table"
CSV = {"content-type": "text/csv"}
PARQUET = {"content-type": "application/vnd.apache.parquet"}
COLOURS = table.COLUMNS[1].categories
ITEMS = table.items(12, seed=6)


def named(items: NDArray[Any]) -> dict[str, list[Any]]:
    """Items as columns in another order, with ids and a column that the training table had beside them."""
    return {
        "patient": [f"p-{row}" for row in range(len(items))],
        "colour": [COLOURS[place] for place in items[:, 1:].argmax(axis=1)],
        "notes": ["a note, with a comma"] * len(items),
        "height": items[:, 0].astype(float).tolist(),
    }


def records(columns: dict[str, list[Any]]) -> list[dict[str, Any]]:
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def as_csv(columns: dict[str, list[Any]], mark: str = ",") -> bytes:
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=mark)
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    return text.getvalue().encode()


def as_parquet(columns: dict[str, Any]) -> bytes:
    file = io.BytesIO()
    parquet.write_table(pyarrow.table(columns), file)
    return file.getvalue()


def refused(answer: httpx.Response, status: int = 422) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    problem: dict[str, Any] = answer.json()
    return problem


@pytest.mark.parametrize("operation", ["encode", "reconstruct", "score", "read"])
def test_rows_by_name_are_answered_as_arrays_are_with_their_ids(client: httpx.Client, operation: str) -> None:
    path, columns = f"{MODEL}/{operation}", named(ITEMS)
    arrays = client.post(path, json={"inputs": ITEMS.tolist()}).json()
    options = {"as": "arrays"} if operation in ("reconstruct", "read") else {}
    query = {**options, "id": "patient"}
    body = {"records": records(columns), **query}
    answers = [
        client.post(path, json=body),
        client.post(path, params=query, content=as_csv(columns), headers=CSV),
        client.post(path, params=query, content=as_csv(columns, ";"), headers=CSV),
        client.post(path, params=query, content=as_parquet(columns), headers=PARQUET),
    ]
    for answer in answers:
        assert answer.status_code == 200, answer.text
        found = answer.json()
        if operation == "score":
            assert [score.pop("id") for score in found["scores"]] == columns["patient"]
        else:
            assert found.pop("ids") == columns["patient"]
        assert found == arrays


def test_a_parquet_may_hold_anything_in_columns_that_the_model_left_out(client: httpx.Client) -> None:
    columns = named(ITEMS)
    plain = client.post(
        f"{MODEL}/score", params={"id": "patient"}, content=as_parquet(columns), headers=PARQUET
    )
    for notes in ([["a", "b"]], [{"x": 1.0, "names": ["a"]}], [b"x" * 99], [None]):
        content = as_parquet(columns | {"notes": notes * len(ITEMS)})
        answer = client.post(f"{MODEL}/score", params={"id": "patient"}, content=content, headers=PARQUET)
        assert answer.json() == plain.json()


def test_an_index_that_pandas_stored_can_be_the_id(client: httpx.Client) -> None:
    columns = named(ITEMS)
    table = pyarrow.table(columns).replace_schema_metadata({b"pandas": b'{"index_columns": ["patient"]}'})
    file = io.BytesIO()
    parquet.write_table(table, file)
    path, query = f"{MODEL}/score", {"id": "patient"}
    indexed = client.post(path, params=query, content=file.getvalue(), headers=PARQUET)
    assert indexed.json() == client.post(path, params=query, content=as_csv(columns), headers=CSV).json()
    assert [score["id"] for score in indexed.json()["scores"]] == columns["patient"]


@pytest.mark.parametrize(
    ("ids", "kind", "answered"),
    [
        ([Decimal("1.10"), None], pyarrow.decimal128(5, 2), ["1.10", None]),
        ([b"a", "\u00e9".encode()], pyarrow.binary(), ["a", "\u00e9"]),
        ([timedelta(hours=30)] * 2, pyarrow.duration("us"), ["1 day, 6:00:00"] * 2),
        ([date(2024, 2, 29), None], pyarrow.date32(), ["2024-02-29", None]),
    ],
    ids=str,
)
def test_an_id_of_a_type_that_json_lacks_is_answered_as_text(
    client: httpx.Client, ids: list[Any], kind: pyarrow.DataType, answered: list[Any]
) -> None:
    file = as_parquet(named(ITEMS[:2]) | {"patient": pyarrow.array(ids, kind)})
    answer = client.post(f"{MODEL}/score", params={"id": "patient"}, content=file, headers=PARQUET).json()
    assert [score["id"] for score in answer["scores"]] == answered


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (pyarrow.array([b"\xff", b"a"]), "bytes that are no text in UTF-8"),
        (pyarrow.array([{"a": 1}] * 2), "a column of structures"),
        (pyarrow.array([2**62, 1], pyarrow.timestamp("us")), "date value out of range"),
        (pyarrow.array([1, 2], pyarrow.timestamp("ms", "Nowhere/Land")), "cannot be read"),
    ],
    ids=str,
)
def test_an_id_that_cannot_be_written_is_refused_with_the_way_out(
    client: httpx.Client, ids: pyarrow.Array, message: str
) -> None:
    for place in ("patient", "colour"):
        columns = named(ITEMS[:2]) | {place: ids}
        answer = client.post(
            f"{MODEL}/score", params={"id": "patient"}, content=as_parquet(columns), headers=PARQUET
        )
        assert answer.status_code == 422, answer.text
        assert place == "colour" or message in answer.json()["detail"]


def test_what_is_read_of_a_file_is_answered_in_every_form_and_reads_the_same_again(
    client: httpx.Client,
) -> None:
    path, columns = f"{MODEL}/read", named(ITEMS)
    del columns["patient"]
    file = as_csv(columns, ";")
    by_name = client.post(path, content=file, headers=CSV).json()["inputs"]
    assert [row["colour"] for row in by_name] == columns["colour"]
    assert [np.float32(row["height"]) for row in by_name] == columns["height"]
    again = client.post(path, content=file, headers=CSV | {"accept": "text/csv"})
    rows = client.post(path, content=again.content, headers=CSV | {"accept": "application/x-npy"})
    np.testing.assert_array_equal(np.load(io.BytesIO(rows.content)), ITEMS)


def test_a_csv_answer_has_the_ids_then_the_p_values_and_all_the_scores(client: httpx.Client) -> None:
    path, columns = f"{MODEL}/score", named(ITEMS)
    answer = client.post(
        path, params={"id": "patient"}, content=as_csv(columns), headers=CSV | {"accept": "text/csv"}
    )
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert list(rows[0])[:4] == ["patient", "p_value", "anomaly", "surprise"]
    scores = client.post(path, json={"inputs": ITEMS.tolist()}).json()["scores"]
    assert [row["patient"] for row in rows] == columns["patient"]
    for row, score in zip(rows, scores, strict=True):
        assert float(row["elbo"]) == score["elbo"]
        assert float(row["p_value"]) == score["p_value"]
        assert row["anomaly"] == str(score["anomaly"]).lower()
    numbered = client.post(path, json={"inputs": ITEMS[:3].tolist()}, headers={"accept": "text/csv"})
    assert [line.split(",")[0] for line in numbered.text.splitlines()] == ["row", "0", "1", "2"]


@pytest.mark.parametrize(
    ("operation", "name"), [("score", "p_value"), ("encode", "mean-0"), ("read", "p_value")]
)
def test_ids_that_are_named_as_a_column_of_the_answer_are_never_lost_in_csv(
    client: httpx.Client, operation: str, name: str
) -> None:
    columns = named(ITEMS)
    columns[name] = columns.pop("patient")
    path, headers = f"{MODEL}/{operation}?id={name}", CSV | {"accept": "text/csv"}
    answer = client.post(path, content=as_csv(columns), headers=headers)
    if operation == "read":  # whose answer has no such column
        assert [row[name] for row in csv.DictReader(io.StringIO(answer.text))] == columns[name]
    else:
        assert "rename it" in refused(answer)["detail"]
    assert client.post(path, content=as_csv(columns), headers=CSV).status_code == 200


def test_items_are_answered_by_name_on_request_and_for_rows_that_came_so(client: httpx.Client) -> None:
    sampled = client.get(f"{MODEL}/sample?count=50&seed=3&output=draw").json()["samples"]
    wanted = [{"height": row[0], "colour": COLOURS[int(np.argmax(row[1:]))]} for row in sampled]
    by_name = client.get(f"{MODEL}/sample?count=50&seed=3&output=draw&as=records").json()
    assert by_name["samples"] == wanted
    assert by_name["shape"] == [50, 4]
    text = client.get(f"{MODEL}/sample?count=50&seed=3&output=draw", headers={"accept": "text/csv"}).text
    again = client.post(f"{MODEL}/score", content=text.encode(), headers=CSV).json()["scores"]
    assert again == client.post(f"{MODEL}/score", json={"records": wanted}).json()["scores"]
    reconstructed = client.post(f"{MODEL}/reconstruct", json={"records": wanted}).json()["reconstructions"]
    assert [list(row) for row in reconstructed] == [["height", "colour"]] * 50
    path = {"from": {"seed": 1}, "to": {"seed": 2}, "as": "records"}
    assert set(client.post(f"{MODEL}/interpolate", json=path).json()["samples"][0]) == {"height", "colour"}
    decoded = client.post(f"{MODEL}/decode", json={"latents": [[0.5]], "as": "records"}).json()
    assert decoded["samples"][0]["colour"] in COLOURS


def test_a_file_with_semicolons_and_decimal_commas_is_scored_as_one_with_points(client: httpx.Client) -> None:
    columns = named(ITEMS)
    foreign = {**columns, "height": [str(value).replace(".", ",") for value in columns["height"]]}
    files = [as_csv(columns), as_csv(foreign, ";")]
    points, commas = (client.post(f"{MODEL}/score?id=patient", content=file, headers=CSV) for file in files)
    assert commas.status_code == 200, commas.text
    assert commas.json() == points.json()


def test_numbers_and_truths_may_be_text_where_that_says_one_thing(client: httpx.Client) -> None:
    path = f"{MODEL}/score"
    number = client.post(path, json={"records": [{"height": 165.5, "colour": "red"}]}).json()["scores"]
    text = client.post(path, json={"records": [{"height": " 165.50", "colour": "red"}]}).json()["scores"]
    assert text == number
    one = client.post(path, json={"records": [{"height": True, "colour": "red"}]}).json()["scores"]
    assert one == client.post(path, json={"inputs": [[1, 1, 0, 0]]}).json()["scores"]


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([{"heigth": 1, "colour": "red"}], ["lacks `height`", "`heigth`", "did you mean `height`?"]),
        ([{"a": 1, "b": 2}], ["lacks `height`, `colour`", "`a`, `b`"]),
        ([{"height": 1, "colour": "red"}, {"colour": "red"}], ["1 of 2 records lack the column `height`"]),
        (
            [{"height": "tall", "colour": "mauve"}],
            ["`height` holds 'tall' in row 0", "`colour` has 1 values"],
        ),
        ([{"height": None, "colour": ""}], ["`height` is empty in row 0", "`colour` is empty in row 0"]),
        ([{"height": "1_0", "colour": "red"}], ["`height` holds"]),
        ([{"height": [1], "colour": "red"}], ["record 0 is no object"]),
        ([7], ["record 0 is no object"]),
        ([], ["`records` is empty"]),
    ],
    ids=str,
)
def test_records_that_do_not_fit_are_refused_with_all_that_is_wrong_by_name(
    client: httpx.Client, rows: list[Any], told: list[str]
) -> None:
    detail = refused(client.post(f"{MODEL}/score", json={"records": rows}))["detail"]
    assert all(text in detail for text in told), detail


def test_each_flaw_has_its_row_and_column(client: httpx.Client) -> None:
    rows = [{"height": 1, "colour": "red"}, {"height": "x", "colour": "mauve"}]
    flaws = refused(client.post(f"{MODEL}/score", json={"records": rows}))["errors"]
    assert [(flaw["pointer"], flaw["row"]) for flaw in flaws] == [
        ("/records/1/height", 1),
        ("/records/1/colour", 1),
    ]


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b'{"records":[{"height":1,"colour":"a:b","height":2}]}', "more than once `height`"),
        (b'{"records":[{"height":1,"colour":"red"}],"records":[]}', "came twice"),
        (b'{"x":{"records":[{"height":1,"colour":"red"}]}}', "unknown key"),
        (b'{"records":[{"height":1,"colour":"red"}],"inputs":[[1,1,0,0]]}', "one form"),
        (b'{"inputs":[[1,1,0,0]],"id":"patient"}', "id names a column of records"),
        (b'{"records":[{"height":1,"colour":"red"}],"id":"patient"}', "came 0 times"),
        (b'{"records":[{"height":1,"colour":"red"}],"id":"height"}', "`id` names a column of toy-table"),
    ],
)
def test_a_body_with_rows_in_two_ways_or_a_doubled_column_is_refused(
    client: httpx.Client, body: bytes, told: str
) -> None:
    assert told in str(refused(client.post(f"{MODEL}/score", content=body)))


def test_a_doubled_and_an_unknown_column_of_a_file_are_named(client: httpx.Client) -> None:
    body = b"height,colour,height,weight\n1,red,2,3\n"
    detail = refused(client.post(f"{MODEL}/score", content=body, headers=CSV))["detail"]
    assert "`height` more than once" in detail
    assert "`weight`, which the model does not have" in detail
    assert "name it by `id`" in detail


def test_bodies_that_are_cut_or_compressed_or_no_table_are_refused(client: httpx.Client) -> None:
    path = f"{MODEL}/score"
    assert "not JSON" in refused(client.post(path, content=b'{"records":[{"height":1,'), 400)["detail"]
    squeezed = gzip.compress(as_csv(named(ITEMS)))
    assert "Content-Encoding" in refused(client.post(path, content=squeezed, headers=CSV), 415)["detail"]
    refused(client.post(path, content=b"height,colour\n1,red,2\n", headers=CSV), 400)
    refused(client.post(path, content=b"height,colour\n", headers=CSV))
    refused(client.post(path, content=b"PAR1 and no more", headers=PARQUET), 400)
    refused(client.post(f"{MODEL}/decode", content=b"a\n1\n", headers=CSV), 415)
    vae = "/v1/models/toy-vae"
    assert "no named columns" in refused(client.post(f"{vae}/score", json={"records": [{"a": 1}]}))["detail"]
    assert "no named columns" in refused(client.get(f"{vae}/sample?as=records"))["detail"]


def test_records_are_as_many_as_inputs_and_files_as_npy(client: httpx.Client) -> None:
    limits = client.get(MODEL).json()["limits"]
    row = {"height": 170.5, "colour": "red"}
    most = [row] * limits["json_rows"]
    assert client.post(f"{MODEL}/encode", json={"records": most}).status_code == 200
    over = refused(client.post(f"{MODEL}/encode", json={"records": [*most, row]}))
    assert over["code"] == "limit_exceeded"
    lines = b"height,colour\n" + b"170.5,red\n" * limits["npy_inputs"]
    answer = client.post(f"{MODEL}/encode", content=lines, headers=CSV)
    expected = as_npy(np.repeat(np.array([[170.5, 1, 0, 0]], np.float32), limits["npy_inputs"], axis=0))
    by_npy = client.post(f"{MODEL}/encode", content=expected, headers={"content-type": "application/x-npy"})
    assert answer.content == by_npy.content
    assert refused(client.post(f"{MODEL}/encode", content=lines + b"1,red\n", headers=CSV))["code"] == (
        "limit_exceeded"
    )


@pytest.mark.parametrize(
    "body",
    [
        b'{"records":[%b]}' % b",".join([b"{}"] * 400_000),
        b'{"records":[{%b}]}' % b",".join(b'"%x":1' % number for number in range(100_000)),
        b'{"records":[%b' % (b'{"a":"' * 100_000),
        b'{"records":[{"height":"%b"}]}' % (b"9" * 2_000_000),
        b'{"records":[' + b" " * 2_000_000,
    ],
    ids=["empty records", "many columns", "depth", "a long number", "white space"],
)
def test_large_bodies_of_records_are_refused_before_objects_are_made(
    client: httpx.Client, body: bytes
) -> None:
    answer = client.post(
        f"{MODEL}/score", content=zlib.compress(body), headers={"content-encoding": "deflate"}
    )
    assert answer.status_code in (400, 413, 422), answer.text
    assert len(answer.content) < 5_000


def test_the_manifest_names_what_may_come_beside_the_columns(client: httpx.Client) -> None:
    assert client.get(MODEL).json()["left_out"] == ["notes"]
    rows = [{"height": 170, "colour": "red", "notes": json.dumps({"any": "text"})}]
    assert client.post(f"{MODEL}/score", json={"records": rows}).status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        [{"height": 1}],
        {"height": 1},
        {"records": {"height": [1]}},
        {"columns": ["height"], "data": [[1]]},
        {},
    ],
)
def test_rows_in_a_form_of_another_library_are_told_the_one_that_is_read(
    client: httpx.Client, body: object
) -> None:
    problem = refused(client.post(f"{MODEL}/score", json=body))
    assert problem["detail"].endswith(
        '; send {"records": [{"column": value, ...}, ...]} or {"inputs": [...]}'
    )
    assert problem["errors"]


@pytest.mark.parametrize(
    ("no_name", "before", "behind"),
    [("", "{row},", ""), ("", "", ","), ("", "{row},a,", ",,"), ("Unnamed: 0", "{row},", "")],
)
def test_columns_without_a_name_are_ignored(
    client: httpx.Client, no_name: str, before: str, behind: str
) -> None:
    plain = as_csv(named(ITEMS)).decode().splitlines()
    names = before.count(",") * f"{no_name}," + plain[0] + behind
    rows = [before.format(row=row) + line + behind for row, line in enumerate(plain[1:])]
    path, query = f"{MODEL}/score", {"id": "patient"}
    answers = [
        client.post(path, params=query, content="\n".join(lines), headers=CSV)
        for lines in (plain, [names, *rows])
    ]
    assert [answer.status_code for answer in answers] == [200, 200], answers[1].text
    assert answers[0].json() == answers[1].json()


@pytest.mark.parametrize("number", ["NaN", "-Infinity", " NaN "])
def test_numbers_that_json_does_not_have_are_told_what_to_write(client: httpx.Client, number: str) -> None:
    body = f'{{"records": [{{"height": {number}, "colour": "red"}}]}}'
    problem = refused(client.post(f"{MODEL}/score", content=body), 400)
    assert "NaN and Infinity are none; write null for a missing value" in problem["detail"]
    other = refused(client.post(f"{MODEL}/score", content=body.replace(number, "1,,")), 400)
    assert "NaN" not in other["detail"]
