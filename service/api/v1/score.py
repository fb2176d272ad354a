"""Scoring items by bounds on their log-likelihood or by noise-free statistics, with calibrated p-values."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Final

from pydantic import Field

from service.api.answer import JSON, NPY, PNG, Answer
from service.api.operations import score
from service.api.operations.call import Call
from service.api.operations.options import Body
from service.api.v1.encoding import INLINE_VALUES, SCORES_IN, arrays_answer, scores_answer
from service.api.v1.operation import Conversions, Id, ItemsRequest, ModelAnswer, Operation
from service.errors import LimitExceeded
from service.format.statistics import Statistic, Unit
from service.media.pictures import heat_of
from service.numerics.calibration import Correction

_MAPS_IN: Final = (JSON, NPY, PNG)


class ScoreRequest(score.ScoreOptions, ItemsRequest):
    """Rows of items to score, and options. Those left out have the values in the model's manifest."""


Surprise = Annotated[
    float, Field(description="How anomalous the item is by the answer's `statistic`, in the answer's `unit`")
]
PValue = Annotated[
    float | None,
    Field(
        description="(1 + the number of calibration items at least as surprising) / (1 + the number of "
        "calibration items); null if this statistic, with these draws and this seed, is not calibrated"
    ),
]
Anomaly = Annotated[bool | None, Field(description="True if flagged as an anomaly; null without a p-value")]


ColumnPValues = Annotated[
    dict[str, float | None] | None,
    Field(
        description="Only if the request asks for `columns`: the p-value of each column of the table by "
        "itself, calibrated on that column's held-out values; null where the value is missing. The smallest "
        "belongs to the column that fits the others worst"
    ),
]


class Score(Body):
    """One item's scores with bounds on log p(x) (VAE), in nats per item unless stated otherwise."""

    id: Id = None
    elbo: float
    """The evidence lower bound: the expected log-likelihood less the KL divergence."""
    standard_error: float | None
    """The standard error of `elbo` over the draws; null for a single draw."""
    expected_log_likelihood: float
    """The log-likelihood of the item given its latent, averaged over draws from the posterior."""
    kl: float
    """The Kullback-Leibler divergence of the item's posterior from the prior."""
    importance_bound: float
    """The importance-weighted lower bound on log p(x), at least as tight as the ELBO in expectation."""
    importance_bound_standard_error: float | None
    """The standard error of `importance_bound` over the draws; null where they do not show it, because few
    have most of the weight: where `effective_draws` are less than 10 or than a tenth of `draws`."""
    effective_draws: float
    """(sum w)^2 / sum w^2 of the draws' importance weights w: how many draws of equal weight would be worth
    as much, 1 to `draws`. The fewer, the further `importance_bound` lies below log p(x)."""
    bits_per_dimension: float | None
    """-`elbo` / (number of values * ln 2), in bits; null if the likelihood is a density."""
    corrected: float | None = None
    """The value described at `StatisticScore`, if the answer's `statistic` is deterministic."""
    path: float | None = None
    """The value described at `StatisticScore`, if the answer's `statistic` is deterministic."""
    kernel_density: float | None = None
    """The value described at `StatisticScore`, if the answer's `statistic` is deterministic."""
    surprise: Surprise
    p_value: PValue
    anomaly: Anomaly
    columns: ColumnPValues = None


class StatisticScore(Body):
    """One item's deterministic scores: those of the statistics below that the version has."""

    id: Id = None
    corrected: float | None = None
    """The log-likelihood of a perfect reconstruction, less that at the posterior mean, plus the KL: nats."""
    path: float | None = None
    """The Mahalanobis distance, from held-out items, of the item's path through both networks, in standard
    deviations: of the norms of reconstruction error, posterior mean and scale, of surprise and KL."""
    kernel_density: float | None = None
    """Minus the log density of a table's row under the mean of kernels around stored training rows: nats."""
    residual: float | None = None
    """The mean square of the item minus its reconstruction."""
    feature_distance: float | None = None
    """The mean square of the item's features in the discriminator minus its reconstruction's features."""
    f_anogan: float | None = None
    """The weighted sum of `residual` and `feature_distance`."""
    surprise: Surprise
    p_value: PValue
    anomaly: Anomaly
    columns: ColumnPValues = None


class ScoreAnswer(ModelAnswer):
    """The scores, and how they were made."""

    statistic: Statistic
    """The statistic behind `surprise`."""
    draws: int | None
    """Latent draws per item for the bounds; null if the scores have no bounds."""
    seed: int | None
    """Seed of the draws; null if the scores have no bounds."""
    alpha: float
    """The share of ordinary items that may be flagged or, with a correction, of flagged items that may be
    ordinary."""
    correction: Correction
    """The correction of the p-values for the number of items."""
    threshold: float | None
    """The surprise above which items are flagged; null if none was calibrated, or a correction flags none."""
    unit: Unit
    """The unit of `surprise` and `threshold`."""
    conversions: Conversions = None
    scores: list[Score | StatisticScore]
    """The scores of each item, in the order of the inputs."""
    map: list[Any] | None = None
    """Only if the request asks for it: for each item, in its shape, how surprising each value is at the
    posterior mean. This is, in nats, by how much the value's log-likelihood is below that of a perfect
    reconstruction, or below 0 if there is none. For a GAN it is the squared difference from the
    reconstruction."""


async def _score(call: Call[score.ScoreOptions], accepted: str) -> Answer:
    rows, most = len(call.arrays["inputs"]), call.settings.max_json_count
    if call.options.map and accepted != NPY and rows > most:
        raise LimitExceeded(f"{rows} maps are more than the {most} that go into {accepted}; ask for {NPY}")
    if accepted in SCORES_IN:
        answer = await scores_answer(call, result := await score.score(call), accepted)
        if result.fields["seed"] is not None:
            answer.headers = ((b"x-pushforward-seed", b"%d" % result.fields["seed"]),)
        return answer
    maps = await score.surprise_map(call)
    if accepted == PNG:
        how = (maps, call.loaded.manifest.map_scale, call.items() if call.options.overlay else None)
        maps = await asyncio.to_thread(heat_of, *how) if maps.size > INLINE_VALUES else heat_of(*how)
    return await arrays_answer(call, accepted, {"map": maps})


def _answers(request: score.ScoreOptions) -> tuple[str, ...]:
    return _MAPS_IN if request.map else SCORES_IN


SCORE = Operation(
    "score",
    "Score items by bounds on log p(x) or by deterministic statistics (VAE), or by distances (GAN)",
    ScoreRequest,
    tuple(dict.fromkeys(_MAPS_IN + SCORES_IN)),
    _score,
    ScoreAnswer,
    "inputs",
    score.ScoreOptions,
    answers_to=_answers,
    description=(
        "npy and PNG answers hold maps alone, so they need `map` to be true. CSV has a line for each row: "
        "its id or number, the p-value, the flag, the surprise, and the other scores."
    ),
)
