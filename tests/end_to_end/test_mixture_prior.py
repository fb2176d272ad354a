"""A version whose prior is a mixture: addressable samples, and scores under that prior."""

import itertools

import httpx
import numpy as np
import pytest

from pushforward import Client
from service.numerics.calibration import bounds_from_terms
from service.numerics.noise import scoring_noise
from service.numerics.prior import GaussianMixturePrior
from tests import toy
from tests.handmade import DRAWS

MODEL = "mixture-vae"
PRIOR = GaussianMixturePrior(toy.WEIGHTS, toy.MEANS, toy.LOG_VARIANCES)


@pytest.mark.parametrize("temperature", [0.0, 0.5, 1.0, 2.0])
def test_samples_are_the_decoder_of_the_mixtures_latents(client: httpx.Client, temperature: float) -> None:
    body = {"count": 40, "seed": 9, "offset": 3, "temperature": temperature, "return_latents": True}
    answer = client.post(f"/v1/models/{MODEL}/sample", json=body).json()
    latents = PRIOR.latents(9, 3, 40, temperature)
    np.testing.assert_array_equal(np.float32(answer["latents"]), latents)
    expected = 1 / (1 + np.exp(-(latents @ toy.DECODER)))
    np.testing.assert_allclose(np.array(answer["samples"]).reshape(40, -1), expected, atol=1e-6)


def test_draws_follow_the_evidence_under_the_mixture(python_client: Client) -> None:
    drawn = python_client.sample(MODEL, count=20_000, seed=1, output="draw")
    patterns = drawn.reshape(len(drawn), -1) @ [8, 4, 2, 1]
    observed = np.bincount(patterns.astype(int), minlength=16)
    exact = [
        np.exp(toy.exact_log_evidence(np.array(bits), mixture=True))
        for bits in itertools.product([0, 1], repeat=4)
    ]
    assert sum(exact) == pytest.approx(1)
    expected = np.array(exact) * len(drawn)
    assert ((observed - expected) ** 2 / expected).sum() < 37.7  # chi-square, 15 degrees, p = 0.001


def test_a_path_between_seeds_begins_and_ends_at_their_samples(python_client: Client) -> None:
    path = python_client.interpolate(MODEL, (1, 7), (2, 0), steps=5)
    np.testing.assert_array_equal(path.latents[0], PRIOR.latents(1, 7, 1, 1.0)[0])
    np.testing.assert_array_equal(path.latents[-1], PRIOR.latents(2, 0, 1, 1.0)[0])
    first = python_client.sample(MODEL, seed=1, offset=7)
    np.testing.assert_allclose(path.samples[0], first[0], rtol=1e-6)


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
