"""A table with categories, trained, served, and asked by the names of its columns, as a user would."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from service.format.versions import read_manifest
from tests.serving import running_service
from tests.training.data.own_data import write_csv
from tests.training.publishing import publish_recipe
from training.recipe import parse_recipe

pytestmark = pytest.mark.exports
ROWS = 600
ROCKS = ("lime", "sand", "shale")
SCORE, CSV = "/v1/models/wells/score", {"content-type": "text/csv"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `wells.csv` and a version that was trained on it."""
    folder, random = tmp_path_factory.mktemp("wells"), np.random.default_rng(0)
    flow = random.normal(20, 1, ROWS)
    table: dict[str, list[Any]] = {
        "well": [f"w-{number}" for number in range(ROWS)],
        "rock": random.choice(ROCKS, ROWS).tolist(),
        "flow": flow.tolist(),
        "pressure": (100 * flow + random.normal(0, 20, ROWS)).tolist(),
        "state": random.choice(["good", "bad"], ROWS, p=[0.9, 0.1]).tolist(),
    }
    recipe = {
        "name": "wells",
        "data": {
            "dataset": "table",
            "path": str(write_csv(folder / "wells.csv", table)),
            "one_hot": ["rock"],
            "drop": ["well"],
            "label": "state",
            "keep": ["good"],
        },
        "network": {"kind": "dense", "latent": 2, "hidden": [16]},
        "vae": {"likelihood": "gaussian", "kl_warmup_steps": 200},
        "loop": {"steps": 1500, "batch_rows": 64, "validate_every": 1500, "learning_rate": 3e-3},
        "calibration": {"statistic": "elbo", "alpha": 0.05},
    }
    publish_recipe(folder, parse_recipe(recipe))
    return folder


@pytest.fixture(scope="module")
def client(folder: Path) -> Iterator[httpx.Client]:
    with running_service(folder / "models") as service:
        yield service.client


def test_the_manifest_says_what_becomes_of_a_new_category_and_what_was_left_out(folder: Path) -> None:
    manifest = read_manifest(folder / "models/wells/1")
    rock = next(column for column in manifest.columns if column.name == "rock")
    assert (rock.categories, rock.unseen) == ((*ROCKS, "other"), "other")
    assert manifest.ignored_columns == {"well", "state"}


def test_the_file_that_a_model_was_trained_on_is_scored_as_it_is(client: httpx.Client, folder: Path) -> None:
    answer = client.post(
        f"{SCORE}?id=well", content=(folder / "wells.csv").read_bytes(), headers=CSV | {"accept": "text/csv"}
    )
    assert answer.status_code == 200, answer.text
    lines = answer.text.splitlines()
    assert lines[0].startswith("well,p_value,anomaly,surprise")
    assert [line.split(",")[0] for line in lines[1:]] == [f"w-{number}" for number in range(ROWS)]


def test_a_new_category_is_scored_and_more_surprising_than_every_known_one(client: httpx.Client) -> None:
    rows = [{"flow": flow, "pressure": 100 * flow} for flow in (19.0, 20.0, 21.0)]
    records = [row | {"rock": rock} for row in rows for rock in (*ROCKS, "basalt", "other")]
    scores = client.post(SCORE, json={"records": records, "draws": 64}).json()["scores"]
    surprises = np.array([score["surprise"] for score in scores]).reshape(len(rows), -1)
    assert np.isfinite(surprises).all()
    np.testing.assert_array_equal(surprises[:, 3], surprises[:, 4])
    assert (surprises[:, 3] > surprises[:, :3].max(axis=1) + 3).all(), (
        "3 nats: a category in 20 rows of a 20th"
    )


def test_samples_are_rows_of_known_categories_that_can_be_scored(client: httpx.Client) -> None:
    asked: dict[str, str | int] = {"count": 500, "seed": 1, "output": "draw", "as": "records"}
    rows = client.get("/v1/models/wells/sample", params=asked).json()["samples"]
    rocks = [row["rock"] for row in rows]
    assert set(rocks) == {*ROCKS}, "what no row of the file has is not drawn"
    assert client.post(SCORE, json={"records": rows}).status_code == 200
