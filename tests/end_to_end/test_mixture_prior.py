"""A version whose prior is a mixture: addressable samples, and scores under that prior."""

import asyncio
import io
import itertools
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from service.numerics.calibration import bounds_from_terms
from service.numerics.noise import scoring_noise
from service.numerics.prior import GaussianMixturePrior
from tests import toy
from tests.handmade import DRAWS
from tests.serving import RunningService, running_service

MODEL = "/v1/models/mixture-vae"
NPY = {"accept": "application/x-npy"}
PRIOR = GaussianMixturePrior(toy.WEIGHTS, toy.MEANS, toy.LOG_VARIANCES)


def samples(response: httpx.Response) -> np.ndarray:
    assert response.status_code == 200, response.text
    array: np.ndarray = np.load(io.BytesIO(response.content), allow_pickle=False)
    return array


@pytest.mark.parametrize("temperature", [0.0, 0.5, 1.0, 2.0])
def test_samples_are_the_decoder_of_the_mixtures_latents(client: httpx.Client, temperature: float) -> None:
    body = {"count": 40, "seed": 9, "offset": 3, "temperature": temperature, "return_latents": True}
    answer = client.post(f"{MODEL}/sample", json=body).json()
    latents = PRIOR.latents(9, 3, 40, temperature)
    np.testing.assert_array_equal(np.float32(answer["latents"]), latents)
    expected = 1 / (1 + np.exp(-(latents @ toy.DECODER)))
    np.testing.assert_allclose(np.array(answer["samples"]).reshape(40, -1), expected, atol=1e-6)


@pytest.mark.parametrize("output", ["mean", "draw"])
def test_a_sample_depends_on_its_seed_and_number_alone(client: httpx.Client, output: str) -> None:
    def sample(count: int, offset: int) -> np.ndarray:
        query = f"count={count}&offset={offset}&seed=12&output={output}"
        return samples(client.get(f"{MODEL}/sample?{query}", headers=NPY))

    hundred = sample(100, 0)
    for count, offset in ((1, 0), (1, 99), (50, 0), (50, 50), (7, 31), (64, 36)):
        np.testing.assert_array_equal(sample(count, offset), hundred[offset : offset + count])
    streamed = sample(3000, 0)
    np.testing.assert_array_equal(streamed[:100], hundred)
    np.testing.assert_array_equal(streamed[2000:], sample(1000, 2000))


def test_concurrent_clients_get_bit_for_bit_what_each_gets_alone(service: RunningService) -> None:
    async def together() -> list[httpx.Response]:
        async with httpx.AsyncClient(base_url=service.url, timeout=60) as client:
            asked = (client.post(f"{MODEL}/sample", json={"seed": seed}, headers=NPY) for seed in range(64))
            return await asyncio.gather(*asked)

    for seed, response in enumerate(asyncio.run(together())):
        alone = service.client.post(f"{MODEL}/sample", json={"seed": seed}, headers=NPY)
        assert response.content == alone.content


def test_draws_follow_the_evidence_under_the_mixture(client: httpx.Client) -> None:
    body = {"count": 20_000, "seed": 1, "output": "draw"}
    drawn = samples(client.post(f"{MODEL}/sample", json=body, headers=NPY))
    patterns = drawn.reshape(len(drawn), -1) @ [8, 4, 2, 1]
    observed = np.bincount(patterns.astype(int), minlength=16)
    exact = [
        np.exp(toy.exact_log_evidence(np.array(bits), mixture=True))
        for bits in itertools.product([0, 1], repeat=4)
    ]
    assert sum(exact) == pytest.approx(1)
    expected = np.array(exact) * len(drawn)
    assert ((observed - expected) ** 2 / expected).sum() < 37.7  # chi-square, 15 degrees, p = 0.001


def test_a_path_between_seeds_begins_and_ends_at_their_samples(client: httpx.Client) -> None:
    ends = {"from": {"seed": 1, "index": 7}, "to": {"seed": 2}, "steps": 5}
    answer = client.post(f"{MODEL}/interpolate", json=ends).json()
    np.testing.assert_array_equal(np.float32(answer["latents"][0]), PRIOR.latents(1, 7, 1, 1.0)[0])
    np.testing.assert_array_equal(np.float32(answer["latents"][-1]), PRIOR.latents(2, 0, 1, 1.0)[0])
    first = client.post(f"{MODEL}/sample", json={"seed": 1, "offset": 7}).json()
    np.testing.assert_allclose(answer["samples"][0], first["samples"][0], rtol=1e-6)


def score(client: httpx.Client, inputs: np.ndarray, draws: int, seed: int) -> dict[str, np.ndarray]:
    """The scores as one array per key."""
    body = {"inputs": inputs.tolist(), "draws": draws, "seed": seed}
    scores = client.post(f"{MODEL}/score", json=body).json()["scores"]
    return {key: np.array([row[key] for row in scores], dtype=float) for key in ("elbo", *PARTS)}


PARTS = ("standard_error", "expected_log_likelihood", "kl", "importance_bound", "bits_per_dimension")


@pytest.mark.parametrize("draws", [DRAWS, 64, 65, 150])  # the last two are computed in pieces of 64
def test_a_score_is_what_the_draws_give_under_the_mixture(client: httpx.Client, draws: int) -> None:
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
    got = score(client, inputs, draws, 3)
    for name, value in expected._asdict().items():
        np.testing.assert_allclose(got[name], value, rtol=1e-4, atol=1e-5, err_msg=name)
    weights = likelihood + prior - posterior
    np.testing.assert_allclose(got["elbo"], weights.mean(axis=1), rtol=1e-4)
    np.testing.assert_allclose(got["standard_error"], weights.std(axis=1, ddof=1) / np.sqrt(draws), rtol=1e-3)
    np.testing.assert_allclose(got["bits_per_dimension"], -got["elbo"] / (4 * np.log(2)))


def test_scores_are_bounds_below_the_exact_evidence_and_their_errors_true(client: httpx.Client) -> None:
    inputs = toy.items(4)
    exact = np.array([toy.exact_log_evidence(item, mixture=True) for item in inputs])
    runs = [score(client, inputs, 100, seed) for seed in range(300)]
    elbo, bound, error = (
        np.array([run[key] for run in runs]) for key in ("elbo", "importance_bound", "standard_error")
    )
    noise = bound.std(axis=0) / np.sqrt(len(runs))
    assert (elbo.mean(axis=0) < bound.mean(axis=0)).all()
    assert (bound.mean(axis=0) < exact + 4 * noise).all()
    np.testing.assert_allclose(bound.mean(axis=0), exact, atol=0.4)  # 100 draws close most of the gap
    np.testing.assert_allclose(np.sqrt((error**2).mean(axis=0)), elbo.std(axis=0), rtol=0.2)


def test_the_manifest_shown_tells_of_the_mixture(client: httpx.Client) -> None:
    prior = client.get(MODEL).json()["prior"]
    assert (prior["kind"], prior["components"], prior["file"]) == ("mixture", 3, "prior.npz")
    assert client.get("/v1/models/toy-vae").json()["prior"] == "standard_normal"


@pytest.fixture
def damaged(tmp_path: Path) -> Iterator[RunningService]:
    version = toy.publish_toy(tmp_path, "mixture-vae", mixture=True)
    (version / "prior.npz").write_bytes(b"damaged")
    with running_service(tmp_path) as service:
        yield service


def test_a_version_with_a_damaged_prior_stays_out_and_says_why(damaged: RunningService) -> None:
    (listed,) = damaged.client.get("/v1/models").json()["models"]
    assert listed["state"] == "failed"
    assert "prior.npz" in listed["reason"]
