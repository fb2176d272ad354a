"""Scores under a prior that is a mixture; its samples are among the operations."""

import httpx
import numpy as np
import pytest

from pushforward import Client
from service.numerics.calibration import bounds_from_terms
from service.numerics.noise import scoring_noise
from tests import toy
from tests.handmade import DRAWS

MODEL = "mixture-vae"


@pytest.mark.parametrize("draws", [DRAWS, 64, 65, 150])  # the last two are computed in pieces of 64
def test_a_score_is_what_the_draws_give_under_the_mixture(python_client: Client, draws: int) -> None:
    inputs = toy.items(5)
    x = inputs.reshape(5, -1).astype(np.float64)
    eps = scoring_noise(3, draws, toy.LATENT).astype(np.float64)
    z = (x @ toy.ENCODER)[:, None] + eps * np.exp(0.5 * toy.LOG_VARIANCE)
    logits = z @ toy.DECODER
    likelihood = (x[:, None] * logits - np.logaddexp(0, logits)).sum(-1)
    posterior = -0.5 * (eps**2 + np.log(2 * np.pi) + toy.LOG_VARIANCE).sum(-1) * np.ones((5, 1))
    prior = toy.log_prior(z, mixture=True)
    kl = (posterior - prior).mean(axis=1)
    expected = bounds_from_terms(likelihood, prior, posterior, kl, analytic_kl=False)
    got = python_client.score(MODEL, inputs, draws=draws, seed=3).columns
    for name, value in expected._asdict().items():
        np.testing.assert_allclose(got[name], value, rtol=1e-4, atol=1e-5, err_msg=name)
    weights = likelihood + prior - posterior
    np.testing.assert_allclose(got["elbo"], weights.mean(axis=1), rtol=1e-4)
    np.testing.assert_allclose(got["standard_error"], weights.std(axis=1, ddof=1) / np.sqrt(draws), rtol=1e-3)
    np.testing.assert_allclose(got["bits_per_dimension"], -got["elbo"] / (4 * np.log(2)))


def test_the_manifest_shown_tells_of_the_mixture(client: httpx.Client) -> None:
    prior = client.get(f"/v1/models/{MODEL}").json()["prior"]
    assert (prior["kind"], prior["components"], prior["file"]) == ("mixture", 3, "prior.npz")
    assert client.get("/v1/models/toy-vae").json()["prior"] == "standard_normal"
