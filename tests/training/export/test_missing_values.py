"""Tables that lack values, trained, published and loaded as a user would."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pushforward.local import load
from service.errors import Unfit
from service.format.versions import read_manifest
from service.numerics.noise import Floats
from tests.training.data.own_data import write_csv
from tests.training.publishing import publish_recipe
from training.recipe import parse_recipe

pytestmark = [pytest.mark.exports, pytest.mark.timeout(600)]
ROWS = 300
NAN = float("nan")


def wells(random: np.random.Generator) -> Floats:
    """Flow and pressure, which follow one another, and one of two rocks."""
    flow = random.normal(20, 1, ROWS)
    rock = random.integers(2, size=ROWS)
    columns = [flow, 100 * flow + random.normal(0, 20, ROWS), rock == 0, rock == 1]
    return np.stack(columns, 1).astype(np.float32)


def published(folder: Path, gaps: bool) -> tuple[Path, Floats]:
    """The version trained on the wells, with or without gaps, and the wells as they were."""
    random = np.random.default_rng(0)
    rows = wells(random)
    table: dict[str, list[Any]] = {
        "flow": rows[:, 0].tolist(),
        "pressure": rows[:, 1].tolist(),
        "rock": ["sand" if sand else "lime" for sand in rows[:, 3]],
    }
    if gaps:
        missing = random.random((ROWS, 3)) < 0.2
        for place, values in enumerate(table.values()):
            values[:] = ["" if gone else value for gone, value in zip(missing[:, place], values, strict=True)]
    recipe = {
        "name": "wells",
        "data": {
            "dataset": "table",
            "path": str(write_csv(folder / "wells.csv", table)),
            "one_hot": ["rock"],
            "unseen": "refuse",
        },
        "network": {"kind": "dense", "latent": 2, "hidden": [16]},
        "vae": {"likelihood": "gaussian", "prior": "vamp", "prior_components": 4, "kl_warmup_steps": 500},
        "loop": {"steps": 1500, "batch_rows": 64, "validate_every": 1500, "learning_rate": 3e-3},
        "calibration": {"alpha": 0.05},
    }
    return publish_recipe(folder, parse_recipe(recipe)), rows


def test_a_version_trained_with_gaps_scores_encodes_and_fills_in_rows_with_gaps(tmp_path: Path) -> None:
    version, rows = published(tmp_path, gaps=True)
    assert read_manifest(version).takes_missing
    assert "some lack values" in (version / "README.md").read_text()
    half = rows[:40].copy()
    half[::2, 0], half[1::2, 1], half[::3, 2:], half[7] = NAN, NAN, NAN, NAN
    odd = half.copy()
    odd[::2, 1], odd[1::2, 0] = 2600, 13
    odd[7] = NAN
    with load(version) as model:
        whole, scores, strange = model.score(rows[:40]), model.score(half), model.score(odd)
        alone = [model.score(half[[place]]).surprise[0] for place in range(8)]
        means = model.encode(half).mean
        rebuilt = model.reconstruct(half)
        maps = model.surprise_map(half)
    for result in (whole, scores, strange):
        assert np.isfinite(result.surprise).all()
        assert result.p_value is not None
    assert np.array_equal(alone, scores.surprise[:8])
    kept = np.arange(40) != 7
    assert (strange.surprise[kept] > scores.surprise[kept]).all()
    assert np.isfinite(means).all()
    assert np.isfinite(rebuilt).all()
    assert (maps[np.isnan(half)] == 0).all()
    gap = np.isnan(half) & kept[:, None]
    for place in (0, 1):
        found, truth, mean = (
            rebuilt[gap[:, place], place],
            rows[:40][gap[:, place], place],
            rows[:, place].mean(),
        )
        assert np.square(found - truth).mean() < 0.5 * np.square(mean - truth).mean()


def test_a_version_trained_without_gaps_refuses_a_missing_value_by_its_column(tmp_path: Path) -> None:
    version, rows = published(tmp_path, gaps=False)
    assert not read_manifest(version).takes_missing
    rows[2, 1] = NAN
    with load(version) as model, pytest.raises(Unfit, match="1 of 300 rows") as caught:
        model.score(rows)
    (flaw,) = caught.value.flaws
    assert flaw.pointer == "/inputs/2"
    assert "column `pressure` is missing" in flaw.message
