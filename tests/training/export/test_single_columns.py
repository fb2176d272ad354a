"""The odd column of a row: a table whose columns differ in scale, trained, published, served and asked."""

import json
from pathlib import Path

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet
from scipy import stats
from typer.testing import CliRunner

from pushforward import Client
from pushforward.command.app import app
from pushforward.local import load
from service.errors import Unfit
from service.format.versions import read_manifest
from service.numerics.noise import Doubles, Floats
from tests.conftest import REPOSITORY
from tests.serving import as_npy, running_service
from tests.training.data.own_data import write_csv
from tests.training.publishing import publish_recipe
from training.recipe import parse_recipe

pytestmark = [pytest.mark.exports, pytest.mark.timeout(600)]
NAMES = ("temperature", "pressure", "leak", "cost")
ROWS, TEST = 900, 300
NAN = float("nan")


def plants(rows: int, seed: int) -> Doubles:
    """Pressure follows temperature; the leak is skewed and tiny, the cost large and independent."""
    random = np.random.default_rng(seed)
    heat, other = random.normal(size=(2, rows))
    pressure = 1000 + 50 * (heat + 0.3 * random.normal(size=rows))
    return np.stack([20 + heat, pressure, 1e-3 * np.exp(0.5 * other), 1e5 * random.normal(size=rows)], 1)


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, rows = tmp_path_factory.mktemp("plants"), plants(ROWS, 0)
    missing = np.random.default_rng(1).random(rows.shape) < 0.05
    table = {
        name: ["" if gone else value for gone, value in zip(missing[:, place], rows[:, place], strict=True)]
        for place, name in enumerate(NAMES)
    }
    recipe = {
        "name": "plants",
        "data": {"dataset": "table", "path": str(write_csv(folder / "plants.csv", table))},
        "network": {"kind": "dense", "latent": 2, "hidden": [32]},
        "vae": {"likelihood": "gaussian", "kl_warmup_steps": 200},
        "loop": {"steps": 800, "batch_rows": 64, "validate_every": 400},
        "calibration": {"alpha": 0.05},
    }
    return publish_recipe(folder, parse_recipe(recipe))


def spoilt(place: int, deviations: float) -> Floats:
    rows = plants(TEST, 2)
    rows[:, place] = rows[:, place].mean() + deviations * rows[:, place].std()
    return rows.astype(np.float32)


@pytest.mark.parametrize("deviations", [-6.0, 8.0, 1000.0])
def test_the_column_with_the_least_p_value_is_the_one_with_the_planted_outlier(
    version: Path, deviations: float
) -> None:
    with load(version) as model:
        for place, name in enumerate(NAMES):
            scores = model.score(spoilt(place, deviations), columns=True)
            assert scores.odd_column is not None
            assert (scores.odd_column == name).mean() >= 0.9


def test_p_values_of_each_column_flag_ordinary_rows_no_more_than_promised(version: Path) -> None:
    spec = read_manifest(version).calibration
    assert spec is not None
    assert min(spec.columns) > 100
    with load(version) as model:
        single = model.score(plants(3000, 3), columns=True).column_p_values
    assert single is not None
    for name in NAMES:
        rows = spec.columns[NAMES.index(name)]
        rank = int(0.05 * (rows + 1))
        most = stats.betabinom.ppf(0.9995, 3000, rank, rows + 1 - rank) / 3000
        assert (single[name] <= rank / (rows + 1)).mean() <= most


def test_the_service_the_client_the_command_and_bulk_work_answer_alike(version: Path, tmp_path: Path) -> None:
    models = version.parent.parent
    (models / "digits-vae").symlink_to(REPOSITORY / "models" / "digits-vae")
    rows = spoilt(2, 9)[:6]
    rows[1, 0], rows[3] = NAN, NAN
    with load(version) as model:
        local = model.score(rows, columns=True)
    assert local.column_p_values is not None
    with running_service(models) as service, Client(service.url) as client:
        remote = client.score("plants", rows, columns=True)
        plain = client.score("plants", rows)
        with pytest.raises(Unfit, match="no graph `columns`"):
            client.score("digits-vae", np.zeros((1, 1, 8, 8), np.float32), columns=True)
        answer = service.client.post(
            "/v1/models/plants/score?columns=true",
            content=as_npy(rows),
            headers={"content-type": "application/x-npy"},
        )
        assert answer.status_code == 200, answer.text
        assert "NaN" not in answer.text
        lists = [[None if np.isnan(value) else value for value in row] for row in rows.tolist()]
        by_list = service.client.post("/v1/models/plants/score", json={"inputs": lists, "columns": True})
        assert by_list.json() == answer.json()
        as_table = write_csv(tmp_path / "rows.csv", {
            name: ["" if np.isnan(value) else float(value) for value in rows[:, place]]
            for place, name in enumerate(NAMES)
        })  # fmt: skip
        shown = CliRunner().invoke(
            app, ["score", "plants", str(as_table), "--url", service.url, "--columns", "--as", "json"]
        )
        assert shown.exit_code == 0, shown.output
    assert plain.column_p_values is None
    assert remote.column_p_values is not None
    assert remote.odd_column is not None
    for name in NAMES:
        np.testing.assert_array_equal(remote.column_p_values[name], local.column_p_values[name])
    scores = answer.json()["scores"]
    assert scores[1]["columns"]["temperature"] is None
    assert scores[3]["columns"] == dict.fromkeys(NAMES)
    assert scores[0]["columns"] == {name: values[0] for name, values in remote.column_p_values.items()}
    assert [score["odd_column"] for score in json.loads(shown.stdout)["scores"]] == remote.odd_column.tolist()
    parquet.write_table(
        pyarrow.table({name: rows[[0, 2, 4], place] for place, name in enumerate(NAMES)}),
        tmp_path / "rows.parquet",
    )
    given = ["plants", str(tmp_path / "rows.parquet"), "--out", str(tmp_path / "out"), "--local", str(models)]
    made = CliRunner().invoke(app, ["bulk", "score", *given, "--columns", "--processes", "1"])
    assert made.exit_code == 0, made.output
    part = parquet.read_table(next((tmp_path / "out").glob("*.parquet")))
    found = np.array(part["columns"].to_pylist())
    assert np.allclose(found, np.stack([*local.column_p_values.values()], 1)[[0, 2, 4]])
