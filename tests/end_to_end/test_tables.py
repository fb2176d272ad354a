"""A table through every operation: one-dimensional items, real numbers, and one-hot columns."""

import itertools

import httpx
import numpy as np
import pytest
from scipy import stats

from service.numerics import noise
from tests import toy_table as table
from tests.serving import as_npy, npy

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


def test_draws_are_rows_of_the_table_and_follow_its_law(client: httpx.Client) -> None:
    drawn = npy(client.get(f"{MODEL}/sample?count=20000&seed=3&output=draw", headers=NPY))
    colours = drawn[:, 1:]
    assert set(np.unique(colours)) == {0.0, 1.0}
    assert (colours.sum(axis=1) == 1).all()
    other = table.items(20_000, seed=4)
    assert stats.ks_2samp(drawn[:, 0], other[:, 0]).pvalue > 1e-3
    counts = np.array([colours.sum(axis=0), other[:, 1:].sum(axis=0)])
    assert stats.chi2_contingency(counts).pvalue > 1e-3
    taken = client.post(f"{MODEL}/encode", json={"inputs": drawn[:100].tolist()})
    assert taken.status_code == 200


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


def test_a_path_between_rows_of_a_table_goes_by_their_posterior_means(client: httpx.Client) -> None:
    one, other = table.items(2).tolist()
    answer = client.post(f"{MODEL}/interpolate", json={"from": {"input": one}, "to": {"input": other}}).json()
    means = client.post(f"{MODEL}/encode", json={"inputs": [one, other]}).json()["mean"]
    assert [answer["latents"][0], answer["latents"][-1]] == means
    assert answer["shape"] == [10, table.FEATURES]


def test_a_density_has_no_bits_per_dimension(client: httpx.Client) -> None:
    scores = client.post(f"{MODEL}/score", json={"inputs": table.items(3).tolist()}).json()["scores"]
    assert {score["bits_per_dimension"] for score in scores} == {None}
    assert all(0 < score["p_value"] <= 1 for score in scores)


def test_any_finite_number_passes_and_an_extreme_one_is_an_anomaly(client: httpx.Client) -> None:
    inputs = [
        [height, *colour] for height, colour in itertools.product((-3e38, -1e30, 1e30), np.eye(3).tolist())
    ]
    for operation in ("encode", "reconstruct"):
        assert client.post(f"{MODEL}/{operation}", json={"inputs": inputs}).status_code == 200
    scores = client.post(f"{MODEL}/score", json={"inputs": inputs}).json()["scores"]
    assert all(np.isfinite(score["elbo"]) and score["anomaly"] for score in scores)
    ordinary = client.post(f"{MODEL}/score", json={"inputs": [[170.5, 1, 0, 0]]}).json()["scores"]
    assert ordinary[0]["anomaly"] is False


def test_the_manifest_shown_names_the_columns_and_their_categories(client: httpx.Client) -> None:
    shown = client.get(MODEL).json()
    assert shown["columns"] == [
        {"name": "height", "categories": [], "unseen": "refuse", "codes": []},
        {"name": "colour", "categories": ["red", "green", "blue"], "unseen": "refuse", "codes": []},
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
