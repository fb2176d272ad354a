"""The purpose of scoring: real held-out items pass, and noise does not."""

from functools import cache, partial

import httpx
import numpy as np
import pytest
from scipy import stats

from pushforward import Client
from tests.serving import as_npy, metric_sum
from training.data import DataError, load_dataset
from training.data.options import DataOptions

ALPHA = 0.01


def flagged(client: Client, model: str, items: np.ndarray) -> float:
    """The share of the items that the service calls anomalies at alpha 0.01."""
    anomaly = client.score(model, items, alpha=ALPHA).anomaly
    assert anomaly is not None
    return float(anomaly.mean())


@cache
def held_out(dataset: str) -> np.ndarray:
    """The first 200 test items."""
    try:
        return load_dataset(DataOptions.model_validate({"dataset": dataset})).items["test"][:200]
    except DataError as error:
        pytest.skip(f"no data to score: {error}")


@pytest.mark.parametrize(
    ("model", "dataset"),
    [
        pytest.param("fashion-vae", "fashion-mnist", marks=pytest.mark.published),
        ("digits-vae", "digits"),
    ],
)
def test_noise_is_flagged_and_real_items_are_not(python_client: Client, model: str, dataset: str) -> None:
    real = held_out(dataset)
    noise = np.random.default_rng(0).random(real.shape, dtype=np.float32)
    assert flagged(python_client, model, noise) >= 0.99
    assert flagged(python_client, model, real) <= 0.03


def test_p_values_of_real_items_are_no_smaller_than_uniform(python_client: Client) -> None:
    p_values = python_client.score("fashion-vae", held_out("fashion-mnist")).p_value
    assert stats.kstest(p_values, "uniform", alternative="greater").pvalue > 1e-3


def test_a_corrected_request_flags_outliers_among_many_and_says_from_where(python_client: Client) -> None:
    real = held_out("fashion-mnist")
    items = np.concatenate([real, np.random.default_rng(0).random((20, *real.shape[1:]), dtype=np.float32)])
    score = partial(python_client.score, "fashion-vae")
    plain, corrected = (score(items, alpha=0.1, correction=name) for name in ("none", "benjamini-hochberg"))
    assert (plain.correction, corrected.correction) == ("none", "benjamini-hochberg")
    assert plain.anomaly is not None
    assert corrected.anomaly is not None
    assert corrected.anomaly[200:].all()
    assert corrected.anomaly[:200].sum() <= 8  # a tenth of what is flagged, and chance
    assert corrected.anomaly.sum() < plain.anomaly.sum()
    assert corrected.threshold is not None
    assert np.array_equal(corrected.anomaly, corrected.surprise > corrected.threshold)
    alone = score(real[:3], alpha=0.001, correction="benjamini-hochberg")
    assert alone.threshold is None
    assert alone.anomaly is not None
    assert not alone.anomaly.any()


def test_p_values_are_counted_and_their_drift_is_told(client: httpx.Client) -> None:
    noise = np.random.default_rng(0).random((1000, 1, 8, 8), dtype=np.float32)
    headers = {"content-type": "application/x-npy"}
    client.post("/v1/models/digits-vae/score", content=as_npy(noise), headers=headers).raise_for_status()
    text, model = client.get("/metrics").text, "digits-vae"
    assert metric_sum(text, "pushforward_p_value_bucket", le="0.01", model=model) >= 900
    assert metric_sum(text, "pushforward_p_value_distance", model=model) > 0.9
