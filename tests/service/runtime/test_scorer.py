"""Scores of the toys by their own graphs, against evidence that is computed exactly."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from service.format.specs import ScoreDefaults
from service.format.versions import read_manifest
from service.numerics.calibration import Bounds, Calibration
from service.numerics.noise import Arrays
from service.observe.timing import Timing
from service.runtime.direct import Direct
from service.runtime.scorer import BOUNDS_STAGE, Scorer
from tests import toy, toy_table
from tests.handmade import DRAWS, SEED
from tests.registries import registry_of


class Case(NamedTuple):
    publish: Callable[[Path], Path]
    items: NDArray[np.float32]
    evidence: Callable[[NDArray[np.float32]], float]
    draws: int
    seeds: int
    gap_nats: float
    """The largest distance of the mean importance-weighted bound of so many draws from the exact evidence."""


CASES = {
    "toy-vae": Case(toy.publish_toy, toy.items(4), toy.exact_log_evidence, 500, 60, 0.1),
    "mixture-vae": Case(
        lambda models: toy.publish_toy(models, "mixture-vae", mixture=True),
        toy.items(4),
        lambda item: toy.exact_log_evidence(item, mixture=True),
        100,
        300,
        0.4,
    ),
    "toy-table": Case(
        toy_table.publish_table, toy_table.items(5), toy_table.exact_log_evidence, 200, 60, 0.2
    ),
}

Repeated = dict[str, NDArray[np.float64]]
"""The values (seeds, B) of each score by its name."""


@pytest.fixture(scope="module", params=CASES)
def scored(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Case, Repeated]:
    case, models = CASES[request.param], tmp_path_factory.mktemp("models")
    case.publish(models)

    async def repeat() -> Repeated:
        async with registry_of(models) as registry:
            scorer, runs = registry.get(request.param).scorer, []
            for seed in range(case.seeds):
                how = ScoreDefaults(statistic="elbo", draws=case.draws, seed=seed, alpha=0.05)
                runs.append((await scorer.score(case.items, how, Timing())).columns)
        return {name: np.array([run[name] for run in runs]) for name in ("elbo", "importance_bound")}

    return case, asyncio.run(repeat())


def test_scores_are_bounds_below_the_exact_evidence(scored: tuple[Case, Repeated]) -> None:
    case, runs = scored
    elbo, bound = runs["elbo"].mean(axis=0), runs["importance_bound"].mean(axis=0)
    noise = runs["importance_bound"].std(axis=0) / np.sqrt(case.seeds)
    exact = np.array([case.evidence(item) for item in case.items])
    assert (elbo < bound).all()
    assert (bound < exact + 4 * noise).all()
    np.testing.assert_allclose(bound, exact, atol=case.gap_nats)


@pytest.mark.parametrize("alpha", [0.05, 0.1, 0.5])
def test_an_item_that_ties_with_calibration_items_is_flagged_by_its_p_value(
    tmp_path: Path, alpha: float
) -> None:
    """Each of the 19 calibration items is scored: the n-th most surprising has the p-value (1 + n) / 20."""
    items = np.zeros((19, *toy.ITEM), np.float32)
    items[:, 0, 0, 0] = np.arange(19)

    def bounds(rows: Arrays) -> Arrays:
        elbo, zeros = -rows[0].sum((1, 2, 3), dtype=float), np.zeros(len(rows[0]))
        return Bounds(elbo, *[zeros] * 6)

    manifest = read_manifest(toy.publish_toy(tmp_path))
    stages = {BOUNDS_STAGE: Direct(bounds, 64)}
    scorer = Scorer(manifest, {"elbo": Calibration(np.arange(19))}, None, stages, 64)
    how = ScoreDefaults(statistic="elbo", draws=DRAWS, seed=SEED, alpha=alpha)
    scores = asyncio.run(scorer.score(items, how, Timing()))
    assert scores.p_value is not None
    assert scores.anomaly is not None
    np.testing.assert_allclose(scores.p_value, np.arange(20, 1, -1) / 20)
    np.testing.assert_array_equal(scores.anomaly, np.arange(20, 1, -1) <= round(20 * alpha))
