"""Items as tables and pictures: the same as the service's own."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from pushforward import Client, heat_image, to_image, to_pandas
from pushforward.local import LocalModels
from service.errors import Unfit
from tests.serving import RunningService, as_npy

TABLE, PICTURES, PLANE = "toy-table", "digits-vae", "toy-vae"
PIXELS = {"item_shape": [1, 2, 3], "columns": [], "name": "some-vae"}
AGES = {
    "name": "people",
    "item_shape": [4],
    "columns": [
        {"name": "age", "categories": [], "decimals": 0},
        {"name": "height", "categories": [], "decimals": 1},
        {"name": "rooms", "categories": ["1", "2"], "decimals": 0},
    ],
}


def shown(service: RunningService, model: str, query: str) -> Image.Image:
    answer = service.client.get(f"/v1/models/{model}/sample?{query}", headers={"accept": "image/png"})
    assert answer.status_code == 200, answer.text
    return Image.open(io.BytesIO(answer.content))


@pytest.mark.parametrize("output", ["mean", "draw"])
def test_a_frame_of_items_is_what_pandas_reads_from_the_services_csv(
    few_served: RunningService, output: str
) -> None:
    query = f"count=40&seed=7&output={output}"
    text = few_served.client.get(f"/v1/models/{TABLE}/sample?{query}", headers={"accept": "text/csv"}).text
    with Client(few_served.url) as client:
        items = client.sample(TABLE, count=40, seed=7, output=output)
        frame = to_pandas(items, client.model(TABLE))
    pd.testing.assert_frame_equal(frame, pd.read_csv(io.StringIO(text)), check_dtype=False)


def test_a_column_of_whole_numbers_has_integers_where_all_are_whole() -> None:
    drawn = to_pandas([[40, 1.5, 1, 0], [-3, 1.7, 0, 1]], AGES)
    assert [drawn.age.tolist(), drawn.rooms.tolist()] == [[40, -3], [1, 2]]
    assert [dtype.kind for dtype in drawn.dtypes] == ["i", "f", "i"]
    means = to_pandas([[40.5, 1.5, 1, 0], [-3, 1.7, 0, 1]], AGES)
    assert means.age.tolist() == [40.5, -3]
    missing = to_pandas([[np.nan, 1.5, np.nan, np.nan], [3, 1.7, 0, 1]], AGES)
    assert missing.isna().sum().tolist() == [1, 0, 1]


def test_truth_values_are_such_where_none_is_another_word() -> None:
    columns = [{"name": "old", "categories": ["false", "true", "other"], "decimals": 0}]
    manifest, (no, yes, other) = {"name": "people", "item_shape": [3], "columns": columns}, np.eye(3)
    assert to_pandas([yes, no], manifest).old.to_numpy().tolist() == [True, False]
    assert to_pandas([yes, other], manifest).old.tolist() == ["true", "other"]


def test_items_without_named_columns_have_a_column_for_each_value() -> None:
    frame = to_pandas(np.arange(12).reshape(2, 1, 2, 3), PIXELS)
    assert frame.columns.tolist() == [f"value-{place}" for place in range(6)]
    assert frame.iloc[1].tolist() == [6, 7, 8, 9, 10, 11]


@pytest.mark.parametrize(
    "index",
    [
        pd.Index(["a", "b", "c", "d", "e"], name="person"),
        pd.date_range("2026-03-29", periods=5, freq="h", tz="Europe/Berlin", name="time"),
        pd.MultiIndex.from_tuples([(7, each) for each in "abcde"], names=["ward", None]),
        pd.RangeIndex(3, 8, name=("of", "two")),
    ],
    ids=lambda index: type(index).__name__,
)
def test_a_frame_of_scores_has_the_index_of_the_rows(local: LocalModels, index: pd.Index) -> None:
    rows = to_pandas(local.sample(TABLE, count=5, seed=1, output="draw"), local.model(TABLE))
    rows.index = index
    scores = local.score(TABLE, rows)
    frame = scores.to_pandas()
    assert frame.index.equals(rows.index)
    assert frame.index.names == rows.index.names
    assert frame.surprise.tolist() == scores.surprise.tolist()
    assert frame.columns.tolist() == [*scores.table()]


@pytest.mark.parametrize(
    ("model", "query"), [(PICTURES, "count=5"), (PLANE, "count=300"), (PICTURES, "count=1")]
)
def test_an_image_is_the_services_own(few_served: RunningService, model: str, query: str) -> None:
    with Client(few_served.url) as client:
        items = client.sample(model, count=int(query.partition("=")[2]), seed=7)
        image = to_image(items, client.model(model), scale=1)
    wanted = shown(few_served, model, f"{query}&seed=7")
    assert image.mode == wanted.mode
    np.testing.assert_array_equal(image.convert("RGB"), wanted.convert("RGB"))


def test_small_pictures_are_enlarged_until_one_can_see_them() -> None:
    assert to_image(np.zeros((1, 8, 8))).size == (56, 56)
    assert to_image(np.zeros((1, 8, 8)), scale=2).size == (16, 16)
    assert to_image(np.zeros((6, 3, 60, 60)), across=6).size == (6 * 62 + 2, 64)


def test_a_heat_image_is_the_services_own(few_served: RunningService) -> None:
    with Client(few_served.url) as client:
        items = client.sample(PICTURES, count=1, seed=3)
        maps, manifest = client.surprise_map(PICTURES, items), client.model(PICTURES)
    answer = few_served.client.post(
        f"/v1/models/{PICTURES}/score?map=true&overlay=true", content=as_npy(items),
        headers={"content-type": "application/x-npy", "accept": "image/png"},
    )  # fmt: skip
    image = heat_image(maps, manifest, items, scale=1)
    np.testing.assert_array_equal(image, Image.open(io.BytesIO(answer.content)))
    assert image.tobytes() != heat_image(maps, manifest, scale=1).tobytes()


@pytest.mark.parametrize(
    ("items", "reason"),
    [
        (np.zeros((5, 30)), r"\[5, 30\] came; wanted pictures"),
        (np.zeros((0, 1, 8, 8)), "wanted pictures"),
        (np.zeros((2, 2, 8, 8)), "wanted pictures"),
        (np.full((1, 8, 8), np.nan), "not finite"),
        (3.0, r"\[\] came"),
    ],
)
def test_no_image_is_made_of_what_is_none(items: Any, reason: str) -> None:
    with pytest.raises(Unfit, match=reason):
        to_image(items)


def test_items_of_another_model_are_refused() -> None:
    with pytest.raises(Unfit, match=r"\[3, 5\] came; items of people have the shape \[rows, 4\]"):
        to_pandas(np.zeros((3, 5)), AGES)
    with pytest.raises(Unfit, match=r"\[\[2, 1, 8, 8\], \[1, 1, 8, 8\]\] came"):
        heat_image(np.zeros((2, 1, 8, 8)), {}, np.zeros((1, 1, 8, 8)))
