"""The operations of a GAN with a discriminator and an encoder: judging, scoring, coding, densities."""

import io
import math

import httpx
import numpy as np
import pytest
from PIL import Image
from scipy import stats

from pushforward import Client
from tests import toy
from tests.handmade import CALIBRATION_ITEMS
from tests.serving import as_npy, metric_sum
from tests.toy_gan import ALPHA, ENCODER_SLOPE, SHIFT, STATISTICS, distances, log_ratio, real_items

MODEL = "/v1/models/toy-gan"
AS_NPY = {"content-type": "application/x-npy"}
PNG = {"accept": "image/png"}


def test_the_logit_is_the_log_density_ratio_and_the_probability_its_logistic(
    gan_client: httpx.Client,
) -> None:
    items = np.concatenate([real_items(20), [[40.0, -60.0], [1e4, 1e4]]]).astype(np.float32)
    answer = gan_client.post(f"{MODEL}/discriminate", json={"inputs": items.tolist()}).json()
    assert (answer["model"], answer["version"]) == ("toy-gan", 1)
    exact = log_ratio(items.astype(np.float64))
    for score, expected in zip(answer["scores"], exact, strict=True):
        assert score["logit"] == pytest.approx(expected, rel=1e-4, abs=1e-4)
        assert score["log_density_ratio"] == score["logit"]
        assert score["probability"] == pytest.approx(math.exp(-np.logaddexp(0, -score["logit"])))
    by_npy = gan_client.post(f"{MODEL}/discriminate", content=as_npy(items), headers=AS_NPY).json()
    assert by_npy == answer


@pytest.mark.parametrize("model", ["critic-gan", "packed-gan"])
def test_a_critic_and_a_packed_discriminator_give_no_density_ratio(gans: Client, model: str) -> None:
    judgement = gans.discriminate(model, [[1.0, 2.0]])
    assert judgement.log_density_ratio is None
    assert 0 < judgement.probability[0] < 1


@pytest.mark.parametrize("body", ['{"inputs": [[1, NaN]]}', '{"inputs": [[1]]}', '{"inputs": []}', "{}"])
def test_items_that_cannot_be_judged_are_refused(gan_client: httpx.Client, body: str) -> None:
    response = gan_client.post(f"{MODEL}/discriminate", content=body)
    assert response.status_code in (400, 422)


@pytest.mark.parametrize("statistic", STATISTICS)
def test_the_surprise_is_the_chosen_distance_and_its_p_value_its_rank(
    gan_client: httpx.Client, statistic: str
) -> None:
    items = real_items(50, seed=8) * np.float32(1.5)
    body = {"inputs": items.tolist(), "statistic": statistic}
    answer = gan_client.post(f"{MODEL}/score", json=body).json()
    assert (answer["statistic"], answer["unit"], answer["alpha"]) == (statistic, "mean square", ALPHA)
    assert (answer["draws"], answer["seed"]) == (None, None)
    column = STATISTICS.index(statistic)
    held_out = np.sort(distances(real_items(CALIBRATION_ITEMS, seed=1))[:, column])
    for score, expected in zip(answer["scores"], distances(items), strict=True):
        assert [score[name] for name in STATISTICS] == pytest.approx(expected, rel=1e-4, abs=1e-6)
        assert score["surprise"] == score[statistic]
        rank = (held_out >= score["surprise"]).sum()
        assert score["p_value"] == pytest.approx((1 + rank) / (CALIBRATION_ITEMS + 1), abs=1e-2)
        assert score["anomaly"] == (score["p_value"] <= ALPHA) == (score["surprise"] > answer["threshold"])


def test_real_items_surprise_as_the_calibration_items_do_and_far_items_are_flagged_and_counted(
    gan_client: httpx.Client,
) -> None:
    def scores(items: np.ndarray) -> list[dict[str, float]]:
        response = gan_client.post(f"{MODEL}/score", content=as_npy(items), headers=AS_NPY)
        assert "x-pushforward-seed" not in response.headers
        found: list[dict[str, float]] = response.json()["scores"]
        return found

    def flagged() -> float:
        metrics = gan_client.get("/metrics").text
        return metric_sum(metrics, "pushforward_anomalies_flagged_total", model="toy-gan")

    before = flagged()
    real = scores(real_items(1_000, seed=9))
    held_out = distances(real_items(CALIBRATION_ITEMS, seed=1))[:, -1]
    assert stats.ks_2samp([score["surprise"] for score in real], held_out).pvalue > 1e-3
    far = scores(np.full((7, 2), 30, np.float32))
    assert all(score["anomaly"] for score in far)
    assert flagged() - before == 7 + sum(score["p_value"] <= ALPHA for score in real)


@pytest.mark.parametrize(
    ("options", "code", "text"),
    [
        ({"draws": 4}, "unfit", "draws"),
        ({"seed": 0}, "unfit", "seed"),
        ({"statistic": "elbo"}, "unfit", "it has residual, feature_distance, f_anogan"),
        ({"statistic": "importance_bound", "draws": 3}, "unfit", "no statistic importance_bound"),
        ({"alpha": 0.001}, "limit_exceeded", f"{1 / (CALIBRATION_ITEMS + 1):.6g}"),
    ],
)
def test_what_a_gan_cannot_be_scored_by_is_refused(
    gan_client: httpx.Client, options: dict[str, object], code: str, text: str
) -> None:
    response = gan_client.post(f"{MODEL}/score", json={"inputs": [[0.0, 1.0]]} | options)
    assert (response.status_code, response.json()["code"]) == (422, code)
    assert text in response.json()["detail"]


def test_a_vae_has_no_distances_and_says_what_it_has(client: httpx.Client) -> None:
    body = {"inputs": toy.items(1).tolist(), "statistic": "residual"}
    response = client.post("/v1/models/toy-vae/score", json=body)
    assert (response.status_code, response.json()["code"]) == (422, "unfit")
    assert "it has elbo, importance_bound" in response.json()["detail"]
    judged = client.post("/v1/models/toy-vae/discriminate", json={"inputs": toy.items(1).tolist()})
    assert (judged.status_code, judged.json()["code"]) == (404, "operation_not_offered")


def test_an_encoder_without_a_variance_encodes_reconstructs_and_walks(
    gan_client: httpx.Client, gans: Client
) -> None:
    items = real_items(3)
    encoded = gans.encode("toy-gan", items)
    np.testing.assert_allclose(encoded.mean, (items - SHIFT) * ENCODER_SLOPE, rtol=1e-5, atol=1e-6)
    assert encoded.log_variance is None
    again = gan_client.post(f"{MODEL}/reconstruct", json={"inputs": items.tolist()}).json()
    np.testing.assert_array_equal(np.float32(again["latents"]), encoded.mean)
    np.testing.assert_array_equal(gans.decode("toy-gan", encoded.mean), np.float32(again["reconstructions"]))
    walked = gans.interpolate("toy-gan", *({"input": item} for item in items[:2]), steps=4)
    np.testing.assert_array_equal(walked.latents[[0, -1]], encoded.mean[:2])


def test_points_are_pictured_by_their_density_as_many_as_may_be(gan_client: httpx.Client) -> None:
    def picture(query: str) -> Image.Image:
        return Image.open(io.BytesIO(gan_client.get(f"{MODEL}/sample?seed=1{query}", headers=PNG).content))

    many, all_of_them, one = picture(""), picture("&count=4096"), picture("&count=1")
    assert many.size == (512, 512)
    assert many.tobytes() == all_of_them.tobytes()
    lit = [np.count_nonzero(np.asarray(each) > 0) for each in (one, many)]
    assert 0 < lit[0] < 1_000 < lit[1]
    assert picture("&method=metropolis&budget=2").size == (512, 512)


def test_every_picture_of_points_is_a_density(gan_client: httpx.Client) -> None:
    items, latents = real_items(30).tolist(), [[0.0, 0.5], [1.0, 1.0]]
    ends = {"from": {"seed": 1}, "to": {"seed": 2}}
    for model in ("toy-gan", "mixture-gan"):  # with a view and without one
        for operation, body in (
            ("interpolate", ends),
            ("decode", {"latents": latents}),
            ("reconstruct", {"inputs": items}),
        ):
            response = gan_client.post(f"/v1/models/{model}/{operation}", json=body, headers=PNG)
            assert Image.open(io.BytesIO(response.content)).size == (512, 512)


def test_the_documentation_tells_of_judging_and_choosing(gan_client: httpx.Client) -> None:
    document = gan_client.get("/openapi.json").json()
    assert "post" in document["paths"]["/v1/models/{model}/discriminate"]
    sample = document["paths"]["/v1/models/{model}/sample"]["get"]
    assert "x-pushforward-unfilled" in sample["description"]
    names = {parameter["name"] for parameter in sample["parameters"]}
    assert {"method", "budget"} <= names
    methods = document["components"]["schemas"]["SampleRequest"]["properties"]["method"]["enum"]
    assert methods == ["direct", "rejection", "resample", "metropolis"]
    shown = gan_client.get(MODEL).json()
    assert shown["statistics"] == list(STATISTICS)
    assert shown["discriminator"]["logits"]["n"] == 4096
