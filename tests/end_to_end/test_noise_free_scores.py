"""The scores of a trained VAE without noise: two more statistics, and a map, from a real server."""

import io
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from service.format.specs import GraphName
from service.format.versions import read_manifest
from service.media.pictures import heat_of
from tests.serving import as_npy, npy, running_service
from tests.training.publishing import noise_free_recipe
from tests.training.tiny import digits
from training.export.recalibration import recalibrate
from training.export.sessions import open_graph

pytestmark = [pytest.mark.exports, pytest.mark.timeout(300)]  # trains and exports, or waits for it

MODEL = "/v1/models/tiny-vae"
AS_NPY = {"content-type": "application/x-npy"}
DRAWS = 5


@pytest.fixture(scope="module")
def version(noise_free_version: Path) -> Path:
    return noise_free_version


@pytest.fixture(scope="module")
def tiny(noise_free_version: Path) -> Iterator[httpx.Client]:
    with running_service(noise_free_version.parents[1]) as service:
        yield service.client


@pytest.fixture(scope="module")
def items() -> np.ndarray:
    return digits(noise_free_recipe()).items["test"][:9]


def score(client: httpx.Client, items: np.ndarray, **options: Any) -> dict[str, Any]:
    response = client.post(f"{MODEL}/score", json={"inputs": items.tolist(), **options})
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def computed(version: Path, graph: GraphName, items: np.ndarray) -> np.ndarray:
    array: np.ndarray = open_graph(version, graph).run(None, {"inputs": items})[0]
    return array


@pytest.mark.parametrize(
    ("statistic", "unit", "column"), [("corrected", "nats", 0), ("path", "standard deviations", 1)]
)
def test_a_request_chooses_the_statistic_and_is_told_it_and_its_rank(
    version: Path, tiny: httpx.Client, items: np.ndarray, statistic: str, unit: str, column: int
) -> None:
    answer = score(tiny, items, statistic=statistic)
    assert (answer["statistic"], answer["unit"], answer["alpha"]) == (statistic, unit, 0.1)
    assert (answer["draws"], answer["seed"]) == (None, None)
    expected = computed(version, "statistics", items)
    with np.load(version / "calibration.npz") as stored:
        held_out = stored[statistic]
    for row, both in zip(answer["scores"], expected, strict=True):
        assert [row["corrected"], row["path"]] == pytest.approx(both.tolist())
        assert row["surprise"] == row[statistic] == pytest.approx(both[column])
        rank = (held_out >= row["surprise"]).sum()
        assert row["p_value"] == pytest.approx((1 + rank) / (len(held_out) + 1))
        assert row["anomaly"] == (row["p_value"] <= 0.1) == (row["surprise"] > answer["threshold"])


def test_the_recipes_statistic_is_the_default_and_bounds_keep_the_draws_they_were_calibrated_with(
    tiny: httpx.Client, items: np.ndarray
) -> None:
    default, alone = score(tiny, items), score(tiny, items, statistic="path")
    assert {key: default[key] for key in alone if key not in ("scores", "draws", "seed")} == {
        key: alone[key] for key in alone if key not in ("scores", "draws", "seed")
    }
    bound = score(tiny, items, statistic="elbo")
    assert (bound["draws"], bound["seed"], bound["unit"]) == (DRAWS, 3, "nats")
    assert all(row["p_value"] is not None for row in bound["scores"])
    assert score(tiny, items, statistic="elbo", draws=DRAWS + 1)["scores"][0]["p_value"] is None


def test_bounds_stand_beside_a_statistic_without_noise_unless_it_is_named(
    tiny: httpx.Client, items: np.ndarray
) -> None:
    """A named statistic takes one pass; a client that only knows bounds finds them wherever a VAE scores."""
    default, alone = score(tiny, items), score(tiny, items, statistic="path")
    bound = score(tiny, items, statistic="elbo")
    own = ("surprise", "p_value", "anomaly")
    for row, path, elbo in zip(default["scores"], alone["scores"], bound["scores"], strict=True):
        assert row == {**elbo, **path}
        assert "elbo" not in path
        assert {key: row[key] for key in own} == {key: path[key] for key in own}
    assert (default["draws"], default["seed"]) == (DRAWS, 3)
    more = score(tiny, items, draws=DRAWS + 1, seed=4)
    assert (more["statistic"], more["draws"], more["seed"]) == ("path", DRAWS + 1, 4)
    assert [row["p_value"] for row in more["scores"]] == [row["p_value"] for row in default["scores"]]
    assert [row["elbo"] for row in more["scores"]] != [row["elbo"] for row in default["scores"]]


def test_a_version_calibrated_anew_keeps_its_statistics_and_the_draws_of_its_bounds(
    version: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "models" / version.parent.name / version.name
    shutil.copytree(version, copy)
    normals = tmp_path / "normals.npy"
    np.save(normals, digits(noise_free_recipe()).items["test"][9:109])
    before, after = read_manifest(version), read_manifest(recalibrate(copy, normals, {}))
    assert (after.statistics, after.graphs, after.defaults) == (
        before.statistics,
        before.graphs,
        before.defaults,
    )
    assert before.calibration is not None
    assert after.calibration is not None
    expected = {
        name: how.model_copy(update={"n": 100}) for name, how in before.calibration.statistics.items()
    }
    assert after.calibration.statistics == expected


def test_an_items_score_and_map_do_not_depend_on_its_place(tiny: httpx.Client, items: np.ndarray) -> None:
    together, reverse = score(tiny, items, map=True), score(tiny, items[::-1], map=True)
    assert reverse["scores"] == together["scores"][::-1]
    assert reverse["map"] == together["map"][::-1]
    alone = [score(tiny, item[None], map=True) for item in items]
    assert [answer["scores"][0] for answer in alone] == together["scores"]
    assert [answer["map"][0] for answer in alone] == together["map"]


def test_a_map_has_the_items_shape_and_sums_to_corrected_less_the_kl(
    tiny: httpx.Client, items: np.ndarray
) -> None:
    answer = score(tiny, items, statistic="corrected", map=True)
    maps = np.array(answer["map"])
    assert maps.shape == items.shape
    kl = [row["kl"] for row in score(tiny, items, statistic="elbo")["scores"]]
    corrected = [row["corrected"] for row in answer["scores"]]
    np.testing.assert_allclose(maps.sum((1, 2, 3)) + kl, corrected, rtol=1e-4)
    assert "map" not in score(tiny, items)


def test_a_map_alone_comes_as_npy_and_as_a_picture(tiny: httpx.Client, items: np.ndarray) -> None:
    maps = np.array(score(tiny, items, map=True)["map"], np.float32)
    path = f"{MODEL}/score?map=true"
    answered = tiny.post(path, content=as_npy(items), headers=AS_NPY | {"accept": "application/x-npy"})
    np.testing.assert_array_equal(npy(answered), maps)
    picture = tiny.post(path, content=as_npy(items[:1]), headers=AS_NPY | {"accept": "image/png"})
    assert picture.headers["content-type"] == "image/png"
    shown = np.asarray(Image.open(io.BytesIO(picture.content)), np.float32)
    scale = tiny.get(f"{MODEL}").json()["map_scale"]
    np.testing.assert_allclose(shown, 255 * heat_of(maps[:1], scale)[0].transpose(1, 2, 0), atol=0.51)
    path += "&overlay=true"
    over = tiny.post(path, content=as_npy(items[:1]), headers=AS_NPY | {"accept": "image/png"})
    shown = np.asarray(Image.open(io.BytesIO(over.content)), np.float32)
    expected = 255 * heat_of(maps[:1], scale, items[:1])[0].transpose(1, 2, 0)
    np.testing.assert_allclose(shown, expected, atol=0.51)
    grid = tiny.post(path, content=as_npy(items), headers=AS_NPY | {"accept": "image/png"})
    assert Image.open(io.BytesIO(grid.content)).size == (32, 32)


@pytest.mark.parametrize("accept", ["image/png", "application/x-npy"])
def test_scores_are_json_alone_and_a_client_that_takes_json_too_gets_it(
    tiny: httpx.Client, items: np.ndarray, accept: str
) -> None:
    body = {"inputs": items.tolist()}
    refused = tiny.post(f"{MODEL}/score", json=body, headers={"accept": accept})
    assert (refused.status_code, refused.json()["code"]) == (406, "not_acceptable")
    assert "need `map` to be true" in refused.json()["detail"]
    either = {"accept": f"{accept}, application/json;q=0.5"}
    assert tiny.post(f"{MODEL}/score", json=body, headers=either).json() == score(tiny, items)


def test_what_the_statistic_cannot_have_is_refused_with_a_map_too(
    tiny: httpx.Client, items: np.ndarray
) -> None:
    for accept in ("application/json", "image/png"):
        body = {"inputs": items.tolist(), "statistic": "path", "draws": 3, "map": True}
        refused = tiny.post(f"{MODEL}/score", json=body, headers={"accept": accept})
        assert (refused.status_code, refused.json()["code"]) == (422, "unfit")
        assert "free of noise" in refused.json()["detail"]


@pytest.mark.parametrize("accept", ["application/json", "image/png", "application/x-npy"])
def test_a_map_is_refused_where_its_scores_are(tiny: httpx.Client, items: np.ndarray, accept: str) -> None:
    for options in (
        {"draws": 5001},
        {"alpha": 1e-9},
        {"statistic": "elbo", "draws": DRAWS + 1, "correction": "benjamini-hochberg"},
    ):
        body = {"inputs": items.tolist(), "map": True, **options}
        refused = tiny.post(f"{MODEL}/score", json=body, headers={"accept": accept})
        assert refused.status_code == 422, (options, refused.text[:200])


def test_more_maps_than_fit_into_json_are_answered_as_npy_alone(
    tiny: httpx.Client, items: np.ndarray
) -> None:
    many = as_npy(np.tile(items[:1], (4097, 1, 1, 1)))
    path = f"{MODEL}/score?map=true&statistic=path"
    for accept in ("application/json", "image/png"):
        refused = tiny.post(path, content=many, headers=AS_NPY | {"accept": accept})
        assert (refused.status_code, refused.json()["code"]) == (422, "limit_exceeded")
    answered = tiny.post(path, content=many, headers=AS_NPY | {"accept": "application/x-npy"})
    assert npy(answered).shape == (4097, *items.shape[1:])


def test_a_version_without_a_map_says_what_to_do(client: httpx.Client) -> None:
    body = {"inputs": np.zeros((1, 1, 2, 2)).tolist(), "map": True}
    refused = client.post("/v1/models/toy-vae/score", json=body)
    assert (refused.status_code, refused.json()["code"]) == (422, "unfit")
    assert "pushforward train export" in refused.json()["detail"]


def test_a_gan_maps_the_squared_differences_from_its_reconstruction(client: httpx.Client) -> None:
    garments = np.random.default_rng(0).random((3, 1, 28, 28), dtype=np.float32)
    path, body = "/v1/models/fashion-gan", {"inputs": garments.tolist()}
    maps = client.post(f"{path}/score", json={**body, "map": True}).json()["map"]
    rebuilt = client.post(f"{path}/reconstruct", json=body).json()["reconstructions"]
    np.testing.assert_allclose(maps, (garments - np.array(rebuilt)) ** 2, atol=1e-5)


def test_the_open_inference_protocol_has_both(tiny: httpx.Client, items: np.ndarray) -> None:
    tensor = {
        "name": "inputs",
        "datatype": "FP32",
        "shape": list(items.shape),
        "data": items.ravel().tolist(),
    }

    def infer(**parameters: Any) -> dict[str, Any]:
        body = {"inputs": [tensor], "parameters": parameters}
        answer = tiny.post("/v2/models/tiny-vae.score/infer", json=body).json()
        return {output["name"]: output for output in answer["outputs"]}

    expected = score(tiny, items, map=True)
    got = infer(map=True)
    assert got["map"]["shape"] == list(items.shape)
    np.testing.assert_allclose(got["map"]["data"], np.ravel(expected["map"]), rtol=1e-6)
    assert got["surprise"]["data"] == [row["path"] for row in expected["scores"]]
    assert {"corrected", "path", "p_value", "elbo"} <= infer().keys()
    assert not {"map", "elbo"} & infer(statistic="path").keys()
    assert {"elbo", "kl"} <= infer(statistic="elbo").keys()
