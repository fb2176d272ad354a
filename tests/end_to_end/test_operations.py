"""Every operation through HTTP, on the toy with exact evidence and on the published models."""

import asyncio
import io
import itertools
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from service.format.specs import ScoreDefaults
from service.numerics.prior import GaussianMixturePrior, Prior, StandardNormalPrior
from service.observe.timing import Timing
from service.runtime.scorer import Scores
from tests import toy, toy_table
from tests.handmade import CALIBRATION_ITEMS, DRAWS, SEED
from tests.registries import registry_of
from tests.serving import as_npy, as_picture, metric_sum, npy

TOY = "/v1/models/toy-vae"
NPY = {"accept": "application/x-npy"}
PRIORS: dict[str, Prior] = {
    "toy-vae": StandardNormalPrior(toy.LATENT),
    "mixture-vae": GaussianMixturePrior(toy.WEIGHTS, toy.MEANS, toy.LOG_VARIANCES),
}


@pytest.mark.parametrize("temperature", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("model", PRIORS)
def test_samples_are_the_decoder_of_the_addressed_latents(
    client: httpx.Client, model: str, temperature: float
) -> None:
    body = {"count": 40, "seed": 9, "offset": 3, "temperature": temperature, "return_latents": True}
    answer = client.post(f"/v1/models/{model}/sample", json=body).json()
    latents = PRIORS[model].latents(9, 3, 40, temperature)
    np.testing.assert_array_equal(np.float32(answer["latents"]), latents)
    expected = 1 / (1 + np.exp(-(latents @ toy.DECODER)))
    np.testing.assert_allclose(np.array(answer["samples"]).reshape(40, -1), expected, rtol=1e-5, atol=1e-6)
    assert answer["shape"] == [40, 1, 2, 2]
    assert (answer["model"], answer["version"], answer["seed"], answer["offset"]) == (model, 1, 9, 3)


@pytest.mark.parametrize("model", PRIORS)
def test_draws_follow_the_evidence(client: httpx.Client, model: str) -> None:
    body = {"count": 20_000, "seed": 1, "output": "draw"}
    drawn = npy(client.post(f"/v1/models/{model}/sample", json=body, headers=NPY))
    assert set(np.unique(drawn)) == {0.0, 1.0}
    patterns = drawn.reshape(len(drawn), -1) @ [8, 4, 2, 1]
    observed = np.bincount(patterns.astype(int), minlength=16)
    items = np.array([*itertools.product([0, 1], repeat=4)])
    exact = np.exp([toy.exact_log_evidence(item, mixture=model == "mixture-vae") for item in items])
    assert exact.sum() == pytest.approx(1)
    expected = exact * len(drawn)
    assert ((observed - expected) ** 2 / expected).sum() < 37.7  # chi-square, 15 degrees, p = 0.001


def test_a_fresh_seed_is_drawn_and_told_when_none_is_given(client: httpx.Client) -> None:
    first, second = (client.post(f"{TOY}/sample").json() for _ in range(2))
    assert first["seed"] != second["seed"]
    again = client.post(f"{TOY}/sample", json={"seed": first["seed"]}).json()
    assert again["samples"] == first["samples"]


def test_get_and_post_give_the_same_sample(client: httpx.Client) -> None:
    posted = client.post(f"{TOY}/sample", json={"count": 3, "seed": 4, "temperature": 0.25})
    got = client.get(f"{TOY}/sample", params={"count": 3, "seed": 4, "temperature": 0.25})
    assert got.json() == posted.json()


def test_a_get_with_seed_and_version_is_immutable_and_otherwise_revalidated(client: httpx.Client) -> None:
    pinned = client.get(f"{TOY}/versions/1/sample?seed=4")
    assert "immutable" in pinned.headers["cache-control"]
    newest = client.get(f"{TOY}/sample?seed=4")
    assert newest.headers["cache-control"] == "no-cache"
    assert newest.headers["vary"] == "Accept"
    again = client.get(f"{TOY}/sample?seed=4", headers={"if-none-match": newest.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    other = client.get(f"{TOY}/sample?seed=5", headers={"if-none-match": newest.headers["etag"]})
    assert other.status_code == 200
    assert "etag" not in client.get(f"{TOY}/sample").headers


def test_an_error_is_never_cached(client: httpx.Client) -> None:
    refused = client.get(f"{TOY}/versions/1/sample?seed=4&count=5000")
    assert refused.status_code == 422
    assert refused.headers["cache-control"] == "no-store"
    assert "etag" not in refused.headers


def test_every_answer_says_how_to_draw_it_again(client: httpx.Client) -> None:
    response = client.get("/v1/models/digits-vae/sample?count=2&seed=6&offset=4", headers=NPY)
    headers = response.headers
    assert headers["x-pushforward-model"] == "digits-vae"
    assert headers["x-pushforward-seed"] == "6"
    assert headers["x-pushforward-offset"] == "4"
    again = client.get(
        f"/v1/models/digits-vae/versions/{headers['x-pushforward-version']}/sample",
        params={"count": 2, "seed": 6, "offset": 4},
        headers=NPY,
    )
    assert again.content == response.content
    assert headers["server-timing"].startswith("queue;dur=")


def test_a_request_id_is_kept_or_made(client: httpx.Client) -> None:
    kept = client.get(f"{TOY}/sample", headers={"x-request-id": "my-id.1"})
    assert kept.headers["x-request-id"] == "my-id.1"
    made = client.get("/readyz", headers={"x-request-id": "no\tgood"})
    assert len(made.headers["x-request-id"]) == 32


@pytest.mark.parametrize("path", ["spherical", "linear"])
@pytest.mark.parametrize("model", PRIORS)
def test_interpolation_includes_both_ends_exactly(client: httpx.Client, model: str, path: str) -> None:
    ends = {"from": {"seed": 1, "index": 7}, "to": {"latent": [0.5, -1.5]}, "steps": 6, "path": path}
    answer = client.post(f"/v1/models/{model}/interpolate", json=ends).json()
    np.testing.assert_array_equal(np.float32(answer["latents"][0]), PRIORS[model].latents(1, 7, 1, 1.0)[0])
    assert answer["latents"][-1] == [0.5, -1.5]
    decoded = client.post(f"/v1/models/{model}/decode", json={"latents": answer["latents"]}).json()
    assert decoded["samples"] == answer["samples"]


def test_interpolation_between_inputs_goes_by_their_posterior_means(client: httpx.Client) -> None:
    one, other = toy.items(2, seed=3).tolist()
    answer = client.post(f"{TOY}/interpolate", json={"from": {"input": one}, "to": {"input": other}}).json()
    encoded = client.post(f"{TOY}/encode", json={"inputs": [one, other]}).json()
    assert [answer["latents"][0], answer["latents"][-1]] == encoded["mean"]


def test_reconstruction_is_the_decoded_posterior_mean(client: httpx.Client) -> None:
    inputs = toy.items(3).tolist()
    answer = client.post(f"{TOY}/reconstruct", json={"inputs": inputs}).json()
    assert answer["latents"] == client.post(f"{TOY}/encode", json={"inputs": inputs}).json()["mean"]
    decoded = client.post(f"{TOY}/decode", json={"latents": answer["latents"]}).json()
    assert decoded["samples"] == answer["reconstructions"]


@pytest.mark.parametrize("model", ["toy-vae", "mixture-vae", "toy-table"])
def test_scores_over_http_are_the_scorers(
    client: httpx.Client, models: Path, tmp_path: Path, model: str
) -> None:
    (tmp_path / model).symlink_to(models / model)
    inputs = toy_table.items(4) if model == "toy-table" else toy.items(4)
    body = {"inputs": inputs.tolist(), "draws": 70, "seed": 2}
    answer = client.post(f"/v1/models/{model}/score", json=body).json()["scores"]

    async def scored() -> Scores:
        how = ScoreDefaults(statistic="elbo", draws=70, seed=2, alpha=0.05)
        async with registry_of(tmp_path) as registry:
            return await registry.get(model).scorer.score(inputs, how, Timing())

    for name, column in asyncio.run(scored()).columns.items():
        got = np.array([score[name] for score in answer], np.float64)  # null is NaN
        np.testing.assert_array_equal(got, np.full(4, np.nan) if column is None else column)


def test_the_parts_of_a_score_fit_together(client: httpx.Client) -> None:
    body = {"inputs": toy.items(4).tolist(), "draws": 70, "seed": 2}
    for score in client.post(f"{TOY}/score", json=body).json()["scores"]:
        assert score["elbo"] == pytest.approx(score["expected_log_likelihood"] - score["kl"])
        assert score["surprise"] == -score["elbo"]
        assert score["bits_per_dimension"] == pytest.approx(-score["elbo"] / (4 * np.log(2)))
        assert score["standard_error"] > 0
        assert 1 <= score["effective_draws"] <= 70
        assert (score["importance_bound_standard_error"] is None) == (score["effective_draws"] < 10)


def test_p_values_are_given_only_for_what_was_calibrated(client: httpx.Client) -> None:
    inputs = toy.items(3).tolist()
    calibrated = client.post(f"{TOY}/score", json={"inputs": inputs}).json()
    assert (calibrated["statistic"], calibrated["draws"], calibrated["seed"]) == ("elbo", DRAWS, SEED)
    for score in calibrated["scores"]:
        assert score["anomaly"] == (score["p_value"] <= calibrated["alpha"])
        assert score["anomaly"] == (score["surprise"] > calibrated["threshold"])
    for noise in ({"draws": 3}, {"seed": SEED + 1}):
        other = client.post(f"{TOY}/score", json={"inputs": inputs, **noise}).json()
        assert other["threshold"] is None
        assert {(score["p_value"], score["anomaly"]) for score in other["scores"]} == {(None, None)}


@pytest.mark.parametrize("share", [0.001, 0.999])
def test_an_alpha_too_small_for_the_calibration_names_the_smallest(
    client: httpx.Client, share: float
) -> None:
    alpha = share / (CALIBRATION_ITEMS + 1)
    response = client.post(f"{TOY}/score", json={"inputs": toy.items(1).tolist(), "alpha": alpha})
    assert response.status_code == 422
    assert f"{1 / (CALIBRATION_ITEMS + 1):.6g}" in response.json()["detail"]


def test_one_draw_has_no_standard_error(client: httpx.Client) -> None:
    body = {"inputs": toy.items(1).tolist(), "draws": 1}
    assert client.post(f"{TOY}/score", json=body).json()["scores"][0]["standard_error"] is None


def test_an_npy_of_any_order_and_precision_is_scored_as_the_json_of_its_numbers(client: httpx.Client) -> None:
    inputs = toy.items(5)
    by_json = client.post(f"{TOY}/score", json={"inputs": inputs.tolist(), "draws": 6}).json()
    fortran = as_npy(np.asfortranarray(inputs.astype(np.float64)))
    headers = {"content-type": "application/x-npy"}
    assert client.post(f"{TOY}/score?draws=6", content=fortran, headers=headers).json() == by_json


def test_a_png_is_an_input(client: httpx.Client) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (28, 28), dtype=np.uint8)
    body, headers = as_picture(Image.fromarray(pixels)), {"content-type": "image/png"}
    by_png = client.post("/v1/models/fashion-vae/score?draws=2", content=body, headers=headers).json()
    inputs = (pixels[None, None] / np.float32(255)).tolist()
    by_json = client.post("/v1/models/fashion-vae/score", json={"inputs": inputs, "draws": 2}).json()
    assert by_png == by_json


@pytest.mark.parametrize("model", ["digits-vae", "fashion-binary-vae", "fashion-vae", "fashion-gan"])
def test_a_png_grid_holds_the_samples(client: httpx.Client, model: str) -> None:
    query = {"count": 9, "seed": 7}
    samples = npy(client.get(f"/v1/models/{model}/sample", params=query, headers=NPY))
    response = client.get(f"/v1/models/{model}/sample", params=query, headers={"accept": "image/png"})
    grid = np.asarray(Image.open(io.BytesIO(response.content)))
    size = samples.shape[-1]
    for index, (row, column) in enumerate(itertools.product(range(3), range(3))):
        top, left = 2 + row * (size + 2), 2 + column * (size + 2)
        tile = grid[top : top + size, left : left + size]
        np.testing.assert_array_equal(tile, np.rint(samples[index, 0] * 255))


@pytest.mark.parametrize("operation", ["sample", "interpolate", "decode", "reconstruct"])
def test_a_scale_enlarges_every_pixel_of_a_png(client: httpx.Client, operation: str) -> None:
    inputs = client.get("/v1/models/digits-vae/sample?count=2&seed=7").json()["samples"]
    bodies: dict[str, dict[str, object]] = {
        "sample": {"count": 2, "seed": 7},
        "interpolate": {"from": {"seed": 7}, "to": {"seed": 8}, "steps": 2},
        "decode": {"latents": [[0.0] * 10, [1.0] * 10]},
        "reconstruct": {"inputs": inputs},
    }
    body = bodies[operation]
    tiles = []
    for scale in (1, 5):
        answer = client.post(
            f"/v1/models/digits-vae/{operation}",
            json=body | {"scale": scale},
            headers={"accept": "image/png"},
        )
        grid = np.asarray(Image.open(io.BytesIO(answer.raise_for_status().content)))
        tiles.append(grid[2 : 2 + 8 * scale, 2 : 2 + 8 * scale])
    np.testing.assert_array_equal(tiles[1], np.kron(tiles[0], np.ones((5, 5), np.uint8)))


def test_a_scale_that_makes_too_large_a_picture_is_refused(client: httpx.Client) -> None:
    path = "/v1/models/fashion-vae/sample?count=4096&scale=64"
    answer = client.get(path, headers={"accept": "image/png"})
    assert (answer.status_code, answer.json()["code"]) == (422, "limit_exceeded")
    assert "smaller scale" in answer.json()["detail"]


def test_the_percentiles_of_the_calibration_bound_the_p_values(client: httpx.Client) -> None:
    quantiles = client.get("/v1/models/digits-vae").json()["calibration_quantiles"]
    inputs = client.get("/v1/models/digits-vae/sample?count=64&seed=7&output=draw").json()["samples"]
    for statistic, values in quantiles.items():
        assert len(values) == 101
        assert values == sorted(values)
        body = {"inputs": inputs, "statistic": statistic, "alpha": 0.05}
        for score in client.post("/v1/models/digits-vae/score", json=body).json()["scores"]:
            below = np.searchsorted(values, score["surprise"]) / 100
            assert 1 - score["p_value"] == pytest.approx(below, abs=0.025)


def test_the_catalogue_tells_what_each_model_is_and_offers(client: httpx.Client) -> None:
    listed = {model["name"]: model for model in client.get("/v1/models").json()["models"]}
    assert {"digits-vae", "fashion-vae", "fashion-gan", "toy-vae"} <= set(listed)
    gan = listed["fashion-gan"]
    coded = ["sample", "interpolate", "decode", "encode", "reconstruct", "score", "discriminate", "read"]
    assert gan["operations"] == coded
    assert listed["ring-gan"]["operations"] == ["sample", "interpolate", "decode", "discriminate", "read"]
    assert (gan["family"], gan["item_shape"], gan["state"], gan["provider"]) == (
        "gan",
        [1, 28, 28],
        "ready",
        "cpu",
    )
    shown = client.get("/v1/models/fashion-gan").json()
    assert shown["graphs"]["decode"]["inputs"][0]["name"] == "latents"
    assert (shown["state"], shown["provider"]) == ("ready", "cpu")
    assert client.get("/v1/models/toy-vae/versions/1").json()["version"] == 1


def test_what_a_model_lacks_is_a_404_that_says_what_it_offers(client: httpx.Client) -> None:
    response = client.post("/v1/models/digits-vae/discriminate", json={"inputs": []})
    assert response.status_code == 404
    assert response.json()["code"] == "operation_not_offered"
    offered = ["sample", "interpolate", "decode", "encode", "reconstruct", "score", "read"]
    assert response.json()["offered"] == offered
    drawn = client.post("/v1/models/fashion-gan/sample", json={"output": "draw"})
    assert (drawn.status_code, drawn.json()["code"]) == (404, "operation_not_offered")


def test_the_documentation_is_served_without_another_host(client: httpx.Client) -> None:
    page = client.get("/docs")
    assert page.status_code == 200
    assert "https://" not in page.text
    document = client.get("/openapi.json").json()
    assert "post" in document["paths"]["/v1/models/{model}/versions/{version}/score"]
    assert "get" in document["paths"]["/v1/models/{model}/sample"]
    request = document["components"]["schemas"]["ScoreRequest"]
    assert {"inputs", "records", "id"} <= request["properties"].keys()
    assert request["additionalProperties"] is False


def test_the_documentation_says_what_every_field_is(client: httpx.Client) -> None:
    document = client.get("/openapi.json").json()
    schemas = document["components"]["schemas"]
    fields = {
        f"{schema}.{field}": described
        for schema, text in schemas.items()
        for field, described in text.get("properties", {}).items()
    }
    assert [field for field, described in fields.items() if not described.get("description")] == []


def test_the_metrics_count_what_was_served(client: httpx.Client) -> None:
    def counts() -> tuple[float, ...]:
        text, model, route = client.get("/metrics").text, "toy-vae", "/v1/models/{model}/decode"
        return (
            metric_sum(text, "pushforward_http_requests_total", code="200", method="POST", route=route),
            metric_sum(text, "pushforward_rows_total", model=model, operation="decode"),
            metric_sum(text, "pushforward_anomalies_flagged_total", model=model),
        )

    before = counts()
    client.post(f"{TOY}/decode", json={"latents": [[0, 0], [1, 1], [2, 2]]})
    body = {"inputs": toy.items(64).tolist(), "alpha": 0.5}
    flagged = sum(score["anomaly"] for score in client.post(f"{TOY}/score", json=body).json()["scores"])
    assert flagged > 0
    assert counts() == (before[0] + 1, before[1] + 3, before[2] + flagged)
    text = client.get("/metrics").text
    for name in (
        "request_duration_seconds_bucket",
        "queue_wait_seconds_bucket",
        "compute_duration_seconds_bucket",
        "batch_items_bucket",
        "queue_items",
        "queue_capacity_items",
        "inflight_requests",
        'provider_active{provider="cpu"} 1.0',
        "model_info{",
        'rejected_total{reason="queue_full"} 0.0',
    ):
        assert f"pushforward_{name}" in text
