"""What scoring is for: real held-out items pass, and noise does not."""

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
