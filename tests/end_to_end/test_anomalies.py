"""What scoring is for: real held-out items pass, and noise does not."""

import re
from functools import cache
from typing import Any

import httpx
import numpy as np
import pytest
from scipy import stats

from tests.serving import as_npy
from training.data import DataError, load_dataset
from training.data.options import DataOptions

ALPHA = 0.01


def flagged(client: httpx.Client, model: str, items: np.ndarray) -> float:
    """The share of the items that the service calls anomalies at alpha 0.01."""
    response = client.post(
        f"/v1/models/{model}/score?alpha={ALPHA}",
        content=as_npy(items),
        headers={"content-type": "application/x-npy"},
    )
    return float(np.mean([score["anomaly"] for score in response.json()["scores"]]))


@cache
def held_out(dataset: str) -> np.ndarray:
    """The first 200 test items."""
    try:
        return load_dataset(DataOptions.model_validate({"dataset": dataset})).items["test"][:200]
    except DataError as error:
        pytest.skip(f"no data to score: {error}")


@pytest.mark.parametrize(("model", "dataset"), [("fashion-vae", "fashion-mnist"), ("digits-vae", "digits")])
def test_noise_is_flagged_and_real_items_are_not(client: httpx.Client, model: str, dataset: str) -> None:
    real = held_out(dataset)
    noise = np.random.default_rng(0).random(real.shape, dtype=np.float32)
    assert flagged(client, model, noise) >= 0.99
    assert flagged(client, model, real) <= 0.03


def test_p_values_of_real_items_are_no_smaller_than_uniform(client: httpx.Client) -> None:
    real = held_out("fashion-mnist")
    scores = client.post("/v1/models/fashion-vae/score", json={"inputs": real.tolist()}).json()["scores"]
    p_values = [score["p_value"] for score in scores]
    assert stats.kstest(p_values, "uniform", alternative="greater").pvalue > 1e-3


def test_a_corrected_request_flags_outliers_among_many_and_says_from_where(client: httpx.Client) -> None:
    real = held_out("fashion-mnist")
    items = np.concatenate([real, np.random.default_rng(0).random((20, *real.shape[1:]), dtype=np.float32)])

    def scored(options: str) -> dict[str, Any]:
        headers = {"content-type": "application/x-npy"}
        path = f"/v1/models/fashion-vae/score?alpha=0.1{options}"
        answer: dict[str, Any] = client.post(path, content=as_npy(items), headers=headers).json()
        return answer

    plain, corrected = scored(""), scored("&correction=benjamini-hochberg")
    assert (plain["correction"], corrected["correction"]) == ("none", "benjamini-hochberg")
    flagged = np.array([score["anomaly"] for score in corrected["scores"]])
    surprises = np.array([score["surprise"] for score in corrected["scores"]])
    assert flagged[200:].all()
    assert flagged[:200].sum() <= 8  # a tenth of what is flagged, and chance
    assert flagged.sum() < sum(score["anomaly"] for score in plain["scores"])
    assert np.array_equal(flagged, surprises > corrected["threshold"])
    alone = client.post(
        "/v1/models/fashion-vae/score",
        json={"inputs": real[:3].tolist(), "correction": "benjamini-hochberg", "alpha": 0.001},
    ).json()
    assert alone["threshold"] is None
    assert not any(score["anomaly"] for score in alone["scores"])


def test_a_correction_of_what_was_never_calibrated_is_refused(client: httpx.Client) -> None:
    how = {"statistic": "elbo", "draws": 3, "correction": "benjamini-hochberg"}
    body = {"inputs": held_out("fashion-mnist")[:1].tolist(), **how}
    response = client.post("/v1/models/fashion-vae/score", json=body)
    assert response.status_code == 422
    assert "corrects p-values" in response.json()["detail"]


def test_p_values_are_counted_and_their_drift_is_told(client: httpx.Client) -> None:
    noise = np.random.default_rng(0).random((1000, 1, 8, 8), dtype=np.float32)
    headers = {"content-type": "application/x-npy"}
    client.post("/v1/models/digits-vae/score", content=as_npy(noise), headers=headers).raise_for_status()
    text = client.get("/metrics").text
    lowest = re.search(r'pushforward_p_value_bucket\{le="0.01",model="digits-vae"\} (\S+)', text)
    distance = re.search(r'pushforward_p_value_distance\{model="digits-vae"\} (\S+)', text)
    assert lowest is not None
    assert float(lowest[1]) >= 900
    assert distance is not None
    assert float(distance[1]) > 0.9
