"""A table through every operation: one-dimensional items, real numbers, and one-hot columns."""

import itertools
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from scipy import stats

from pushforward import Client
from service.format.columns import Column
from service.numerics import noise
from tests import toy_table as table
from tests.serving import as_npy, npy, running_service
from tests.toy_gan import publish_gan

MODEL = "/v1/models/toy-table"
NPY = {"accept": "application/x-npy"}


def test_samples_are_the_likelihoods_means_in_json_and_npy(client: httpx.Client) -> None:
    body = {"count": 6, "seed": 2, "offset": 1}
    answer = client.post(f"{MODEL}/sample", json=body).json()
    assert answer["shape"] == [6, table.FEATURES]
    expected = table.decoded(noise.normals(2, noise.Stream.LATENT, 1, 6, table.LATENT))
    np.testing.assert_allclose(answer["samples"], expected, rtol=1e-5)
    np.testing.assert_array_equal(
        npy(client.post(f"{MODEL}/sample", json=body, headers=NPY)), np.float32(answer["samples"])
    )


def test_draws_are_rows_of_the_table_and_follow_its_law(python_client: Client) -> None:
    drawn = python_client.sample("toy-table", count=20_000, seed=3, output="draw")
    colours = drawn[:, 1:]
    assert set(np.unique(colours)) == {0.0, 1.0}
    assert (colours.sum(axis=1) == 1).all()
    other = table.items(20_000, seed=4)
    assert stats.ks_2samp(drawn[:, 0], other[:, 0]).pvalue > 1e-3
    counts = np.array([colours.sum(axis=0), other[:, 1:].sum(axis=0)])
    assert stats.chi2_contingency(counts).pvalue > 1e-3
    assert len(python_client.encode("toy-table", drawn[:100]).mean) == 100


def test_draws_are_rounded_within_the_range_of_the_rows_and_all_else_stays(tmp_path: Path) -> None:
    table.publish_table(tmp_path, "free")
    table.publish_table(tmp_path, "whole", value_range=(166.0, 175.0), decimals=0)
    with running_service(tmp_path) as service, Client(service.url) as python:
        http = service.client
        free = python.sample("free", count=2_000, seed=3, output="draw")
        whole = python.sample("whole", count=2_000, seed=3, output="draw")
        np.testing.assert_array_equal(whole[:, 0], np.clip(free[:, 0], 166, 175).round())
        np.testing.assert_array_equal(whole[:, 1:], free[:, 1:])
        asked: dict[str, str | int] = {"count": 9, "seed": 3, "output": "draw"}
        heights = whole[:9, 0].astype(int).tolist()
        records = http.get("/v1/models/whole/sample", params=asked | {"as": "records"}).json()["samples"]
        assert [row["height"] for row in records] == heights
        assert all(type(row["height"]) is int for row in records)
        lines = http.get("/v1/models/whole/sample", params=asked, headers={"accept": "text/csv"}).text
        assert [line.partition(",")[0] for line in lines.splitlines()[1:]] == [*map(str, heights)]
        means = [python.sample(name, count=9, seed=3) for name in ("free", "whole")]
        np.testing.assert_array_equal(means[0], means[1])
        scores = [python.score(name, free).surprise for name in ("free", "whole")]
        np.testing.assert_array_equal(scores[0], scores[1])


def test_draws_of_a_gan_of_a_table_are_its_samples_rounded_within_the_range(tmp_path: Path) -> None:
    price = Column(name="price", value_range=(-1.5, 4.25), decimals=1)
    publish_gan(tmp_path, columns=(price, Column(name="height")))
    ways: list[dict[str, Any]] = [
        {"seed": 3},
        {"seed": 3, "temperature": 2.0},
        {"seed": 3, "method": "rejection"},
    ]
    with running_service(tmp_path) as service, Client(service.url) as python:
        for options in ways:
            sample = python.sample("toy-gan", count=400, **options)
            drawn = python.sample("toy-gan", count=400, output="draw", **options)
            within = np.clip(sample[:, 0].astype(np.float64), -1.5, 4.25).round(1).astype(np.float32)
            assert (within != sample[:, 0]).any()
            np.testing.assert_array_equal(drawn, np.stack([within, sample[:, 1]], 1))


@pytest.mark.parametrize("operation", ["encode", "reconstruct", "score"])
def test_items_are_taken_alike_as_json_and_as_npy(client: httpx.Client, operation: str) -> None:
    inputs = table.items(7)
    by_json = client.post(f"{MODEL}/{operation}", json={"inputs": inputs.tolist()})
    headers = {"content-type": "application/x-npy"}
    by_npy = client.post(f"{MODEL}/{operation}", content=as_npy(inputs), headers=headers)
    assert by_json.status_code == 200, by_json.text
    assert by_npy.json() == by_json.json()
    alone = client.post(f"{MODEL}/{operation}", content=as_npy(inputs[0]), headers=headers)
    assert alone.status_code == 200, "one item, without the axis of rows, is one row"


def test_a_path_between_rows_of_a_table_goes_by_their_posterior_means(python_client: Client) -> None:
    ends = table.items(2)
    path = python_client.interpolate("toy-table", *ends, steps=10)
    np.testing.assert_array_equal(path.latents[[0, -1]], python_client.encode("toy-table", ends).mean)
    assert path.samples.shape == (10, table.FEATURES)


def test_a_density_has_no_bits_per_dimension(python_client: Client) -> None:
    scores = python_client.score("toy-table", table.items(3))
    assert "bits_per_dimension" not in scores.columns
    assert scores.p_value is not None
    assert ((scores.p_value > 0) & (scores.p_value <= 1)).all()


def test_any_finite_number_passes_and_an_extreme_one_is_an_anomaly(python_client: Client) -> None:
    inputs = [
        [height, *colour] for height, colour in itertools.product((-3e38, -1e30, 1e30), np.eye(3).tolist())
    ]
    for operation in (python_client.encode, python_client.reconstruct):
        operation("toy-table", inputs)
    scores = python_client.score("toy-table", inputs)
    assert np.isfinite(scores.columns["elbo"]).all()
    ordinary = python_client.score("toy-table", [[170.5, 1, 0, 0]])
    assert np.all(scores.anomaly)
    assert not np.any(ordinary.anomaly)


def test_the_manifest_shown_names_the_columns_and_their_categories(client: httpx.Client) -> None:
    shown, free = client.get(MODEL).json(), {"value_range": None, "decimals": None}
    assert shown["columns"] == [
        {"name": "height", "categories": [], "unseen": "refuse", "codes": [], **free},
        {"name": "colour", "categories": ["red", "green", "blue"], "unseen": "refuse", "codes": [], **free},
    ]
    assert (shown["support"], shown["value_range"], shown["item_shape"]) == ("real", None, [4])
    listed = {model["name"]: model for model in client.get("/v1/models").json()["models"]}
    assert listed["toy-table"]["operations"] == listed["toy-vae"]["operations"]


def test_the_documentation_says_what_items_are_made_of(client: httpx.Client) -> None:
    schemas = client.get("/openapi.json").json()["components"]["schemas"]
    for text in (
        schemas["ScoreRequest"]["properties"]["inputs"]["description"],
        schemas["EncodeRequest"]["properties"]["inputs"]["description"],
        schemas["ReconstructRequest"]["properties"]["inputs"]["description"],
        schemas["Point"]["properties"]["input"]["description"],
    ):
        assert "nearest of 256 levels" in text
        assert "`columns`" in text
