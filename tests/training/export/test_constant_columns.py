"""A table with columns that never vary, trained, published and loaded as a user would."""

from pathlib import Path

import numpy as np
import pytest

from pushforward.local import load
from tests.training.data.own_data import write_csv
from tests.training.publishing import publish_recipe
from training.recipe import parse_recipe

pytestmark = [pytest.mark.exports, pytest.mark.timeout(600)]
ROWS = 400


def test_a_change_of_a_constant_column_is_an_anomaly_of_finite_surprise(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    random = np.random.default_rng(0)
    flow = random.normal(20, 1, ROWS)
    rows = np.stack([flow, 100 * flow + random.normal(0, 30, ROWS), np.full(ROWS, 1.5), np.zeros(ROWS)], 1)
    names = ("flow", "pressure", "same", "never")
    path = write_csv(tmp_path / "wells.csv", {name: list(rows[:, place]) for place, name in enumerate(names)})
    recipe = parse_recipe(
        {
            "name": "wells",
            "data": {"dataset": "table", "path": str(path)},
            "network": {"kind": "dense", "latent": 2, "hidden": [16]},
            "vae": {"likelihood": "gaussian"},
            "loop": {"steps": 300, "batch_rows": 64, "validate_every": 300},
            "calibration": {"alpha": 0.05},
        }
    )
    version = publish_recipe(tmp_path, recipe)
    assert not caplog.messages  # of the exporter's libraries, which a user could do nothing about
    card = (version / "README.md").read_text()
    assert "2 columns have one value in the whole training split: same (1.5), never (0)" in card
    changed = np.repeat(rows[:1], 5, axis=0).astype(np.float32)
    changed[1, 2], changed[2, 2], changed[3, 3], changed[4, 3] = 1.6, 3e38, 1, -3e38
    with load(version) as model:
        scores = model.score(changed)
        drawn = model.sample(count=100, output="draw", seed=0)
    assert scores.anomaly is not None
    assert not scores.anomaly[0]
    assert scores.anomaly[1:].all()
    assert np.isfinite(scores.surprise).all()
    assert np.abs(np.median(drawn[:, 2]) - 1.5) < 1e-3
