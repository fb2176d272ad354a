"""Samples chosen by the discriminator: their law, their addresses, and what is refused."""

from typing import Any

import httpx
import numpy as np
import pytest
from scipy import stats

from pushforward import Client
from tests.serving import npy
from tests.toy_gan import DEVIATION, LARGEST_LOGIT, MEAN, log_ratio

MODEL = "/v1/models/toy-gan"
METHODS = ("rejection", "resample", "metropolis")
NPY = {"accept": "application/x-npy"}
TOLD = ("acceptance-rate", "effective-sample-size", "unfilled")


def p_values(drawn: np.ndarray) -> list[float]:
    """Return p-values of chi-square tests against the data's law, one per number, in 16 equal cells."""
    found = []
    for values, mean in zip(drawn.T, MEAN, strict=True):
        edges = stats.norm.ppf(np.linspace(0, 1, 17)[1:-1], mean, DEVIATION)
        found.append(stats.chisquare(np.bincount(np.searchsorted(edges, values), minlength=16)).pvalue)
    return found


@pytest.mark.parametrize("method", ["rejection", "metropolis"])
def test_what_is_accepted_follows_the_data_and_direct_samples_do_not(gans: Client, method: str) -> None:
    drawn = gans.sample("toy-gan", method=method, budget=20, count=3000, seed=1)
    assert min(p_values(drawn)) > 1e-3
    assert max(p_values(gans.sample("toy-gan", count=3000, seed=1))) < 1e-9


@pytest.mark.parametrize("method", METHODS)
def test_a_streamed_answer_has_no_headers_of_choosing(gan_client: httpx.Client, method: str) -> None:
    query: dict[str, Any] = {"method": method, "budget": 3, "seed": 5, "count": 2500}
    response = gan_client.get(f"{MODEL}/sample", params=query, headers=NPY)
    assert npy(response).shape == (2500, 2)
    assert not [name for name in TOLD if f"x-pushforward-{name}" in response.headers]


def test_the_first_acceptance_does_not_change_as_the_budget_grows_for_sample_0(
    gan_client: httpx.Client,
) -> None:
    """Sample 0 owns proposals 0 .. K - 1, so a larger budget only adds proposals behind them."""
    for seed in range(20):
        few, many = (
            gan_client.get(
                f"{MODEL}/sample", params={"method": "rejection", "budget": budget, "seed": seed}
            ).json()
            for budget in (4, 40)
        )
        assert few["samples"] == many["samples"] or few["unfilled"] == 1


@pytest.mark.parametrize("method", METHODS)
def test_get_and_post_agree_and_the_latents_are_those_of_the_samples(
    gan_client: httpx.Client, method: str
) -> None:
    body = {"method": method, "count": 7, "seed": 3, "budget": 6, "return_latents": True}
    posted = gan_client.post(f"{MODEL}/sample", json=body).json()
    query = {key: str(value).lower() for key, value in body.items()}
    assert gan_client.get(f"{MODEL}/sample", params=query).json() == posted
    decoded = gan_client.post(f"{MODEL}/decode", json={"latents": posted["latents"]}).json()
    assert decoded["samples"] == posted["samples"]
    assert (posted["method"], posted["budget"], posted["shape"]) == (method, 6, [7, 2])


def test_the_budget_is_16_and_proposals_are_no_direct_samples(gan_client: httpx.Client, gans: Client) -> None:
    query: dict[str, Any] = {"method": "resample", "seed": 4, "count": 3}
    answer = gan_client.get(f"{MODEL}/sample", params=query).json()
    assert answer["budget"] == 16
    assert answer == gan_client.get(f"{MODEL}/sample", params=query | {"budget": 16}).json()
    one = gans.sample("toy-gan", method="resample", budget=1, seed=4, count=3)
    assert not np.isin(one, gans.sample("toy-gan", seed=4, count=3)).any()


def test_every_answer_tells_how_its_samples_were_chosen(gan_client: httpx.Client) -> None:
    query = {"count": 600, "seed": 9, "budget": 8}
    told = {}
    for method in METHODS:
        response = gan_client.get(f"{MODEL}/sample", params=query | {"method": method})
        told[method] = response.json()
        for accept in ("application/x-npy", "image/png"):
            headers = gan_client.get(
                f"{MODEL}/sample", params=query | {"method": method}, headers={"accept": accept}
            ).headers
            for name in TOLD:
                value = told[method][name.replace("-", "_")]
                text = headers.get(f"x-pushforward-{name}")
                assert text is None if value is None else float(text) == pytest.approx(value, rel=1e-5)
    rate = np.exp(-LARGEST_LOGIT)
    assert told["rejection"]["acceptance_rate"] == pytest.approx(rate, abs=5 * np.sqrt(0.25 / 4800))
    assert told["rejection"]["unfilled"] == pytest.approx(600 * (1 - rate) ** 8, abs=25)
    assert told["metropolis"]["acceptance_rate"] > rate
    assert (told["resample"]["acceptance_rate"], told["resample"]["unfilled"]) == (None, 0)
    sizes = {answer["effective_sample_size"] for answer in told.values()}
    assert len(sizes) == 1
    assert 1 < sizes.pop() < 8
    direct = gan_client.get(f"{MODEL}/sample").json()
    assert direct["method"] == "direct"
    assert {direct[name] for name in ("budget", "acceptance_rate", "effective_sample_size", "unfilled")} == {
        None
    }


def test_unfilled_samples_are_their_best_proposals_and_are_counted(
    gan_client: httpx.Client, gans: Client
) -> None:
    query = {"count": 300, "seed": 6, "budget": 2}
    answer = gan_client.get(f"{MODEL}/sample", params=query | {"method": "rejection"}).json()
    chosen = log_ratio(np.array(answer["samples"]))
    proposals = gans.sample("toy-gan", method="resample", budget=1, count=600, seed=6).reshape(300, 2, 2)
    best = log_ratio(proposals).max(axis=1)
    assert 50 < answer["unfilled"] < 200
    assert (np.abs(chosen - best) < 1e-5).sum() >= answer["unfilled"]
    assert answer["acceptance_rate"] * 600 == pytest.approx(round(answer["acceptance_rate"] * 600))


def test_a_seeded_answer_is_cached_by_its_method_and_budget(gan_client: httpx.Client) -> None:
    path = f"{MODEL}/versions/1/sample?seed=4&method="
    tags = set()
    for tail in ("metropolis", "rejection", "metropolis&budget=4", "metropolis&budget=16"):
        response = gan_client.get(path + tail)
        assert "immutable" in response.headers["cache-control"]
        again = gan_client.get(path + tail, headers={"if-none-match": response.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        tags.add(response.headers["etag"])
    assert len(tags) == 3  # without a budget, it is 16


REFUSED = [
    ("toy-gan", {"method": "rejection", "temperature": 0.5}, 422, "unfit", "temperature"),
    ("toy-gan", {"method": "metropolis", "output": "draw"}, 422, "unfit", "draw"),
    ("toy-gan", {"budget": 16}, 422, "unfit", "budget"),
    ("toy-gan", {"method": "direct", "budget": 1}, 422, "unfit", "budget"),
    ("toy-gan", {"method": "resample", "budget": 0}, 422, "unfit", "budget"),
    ("toy-gan", {"method": "resample", "budget": -4}, 422, "unfit", "budget"),
    ("toy-gan", {"method": "resample", "budget": 1.5}, 422, "unfit", "budget"),
    ("toy-gan", {"method": "resample", "budget": 10**30}, 422, "unfit", "budget"),
    ("toy-gan", {"method": "resample", "budget": 201}, 422, "limit_exceeded", "at most 200"),
    ("toy-gan", {"method": "resample", "budget": 200, "count": 2001}, 422, "limit_exceeded", "400200"),
    ("toy-gan", {"method": "gibbs"}, 422, "unfit", "method"),
    ("critic-gan", {"method": "metropolis"}, 404, "operation_not_offered", "Wasserstein"),
    ("packed-gan", {"method": "resample"}, 404, "operation_not_offered", "2 items together"),
]


@pytest.mark.parametrize(("model", "options", "status", "code", "text"), REFUSED)
def test_what_cannot_be_chosen_is_refused_and_the_reason_told(
    gan_client: httpx.Client, model: str, options: dict[str, Any], status: int, code: str, text: str
) -> None:
    path = f"/v1/models/{model}/sample"
    for response in (gan_client.post(path, json=options), gan_client.get(path, params=options)):
        problem = response.json()
        assert (response.status_code, problem["code"]) == (status, code), problem
        assert text in problem["detail"]
        assert response.headers.get("etag") is None


@pytest.mark.parametrize("value", ["NaN", '"16"', "true", "[16]", "1e400", "Infinity"])
def test_a_budget_is_a_whole_number(gan_client: httpx.Client, value: str) -> None:
    body = f'{{"method": "resample", "budget": {value}}}'
    response = gan_client.post(f"{MODEL}/sample", content=body)
    assert response.status_code in (400, 422)
    assert gan_client.get(f"{MODEL}/sample?method=resample&budget=nan").status_code == 422


def test_a_model_without_a_discriminator_offers_direct_samples_alone(client: httpx.Client) -> None:
    for model in ("toy-vae", "fashion-vae"):
        response = client.get(f"/v1/models/{model}/sample?method=metropolis")
        assert (response.status_code, response.json()["code"]) == (404, "operation_not_offered")
        assert "direct" in response.json()["detail"]
