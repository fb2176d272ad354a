"""Scoring items by bounds on their log-likelihood or by noise-free statistics, with calibrated p-values."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from service.api.answer import JSON, NPY, PNG, Answer, json_in_pieces, to_json
from service.api.operations.options import Body, Inputs
from service.api.operations.score import ScoreOptions, check_scored_as, scored_as
from service.api.v1.operation import BESIDE_THE_LOOP_VALUES, Call, Operation, arrays_answer
from service.errors import LimitExceeded
from service.format.manifest import Statistic, Unit
from service.media.pictures import heat_of
from service.numerics.calibration import Correction
from service.numerics.noise import Floats


class ScoreRequest(ScoreOptions):
    """Rows of items to score, and how."""

    inputs: Inputs


class Score(Body):
    """One item's scores by a bound, or beside one (VAE), in nats per item unless named otherwise."""

    elbo: float
    standard_error: float | None
    expected_log_likelihood: float
    kl: float
    importance_bound: float
    bits_per_dimension: float | None
    corrected: float | None = None
    path: float | None = None
    """Both as below, where the surprise is by one of them."""
    surprise: float
    p_value: float | None
    anomaly: bool | None


class StatisticScore(Body):
    """One item's scores without noise: of these statistics, those that the version has."""

    corrected: float | None = None
    """The log-likelihood of a perfect reconstruction, less that at the posterior mean, plus the KL: nats."""
    path: float | None = None
    """The Mahalanobis distance of the way through both networks from that of held-out items, in standard
    deviations: of the norms of reconstruction error, posterior mean and scale, of surprise and KL."""
    residual: float | None = None
    """The mean square of the item less its reconstruction."""
    feature_distance: float | None = None
    """The mean square of the item's features in the discriminator less its reconstruction's."""
    f_anogan: float | None = None
    """The weighted sum of both."""
    surprise: float
    p_value: float | None
    anomaly: bool | None


class ScoreAnswer(Body):
    """The scores, in the order of the inputs, and how they were made."""

    model: str
    version: int
    statistic: Statistic
    draws: int | None
    seed: int | None
    alpha: float
    correction: Correction
    threshold: float | None
    """The surprise above which items are flagged; null if none was calibrated, or a correction flags none."""
    unit: Unit
    scores: list[Score | StatisticScore]
    map: list[Any] | None = None
    """If asked for: for each item, shaped like it, how surprising each of its values is at the posterior
    mean: minus its log-likelihood in nats, less that of a perfect reconstruction if there is such a thing."""


async def score(call: Call[ScoreOptions]) -> Answer:
    """Answers the scores of each item, its surprise, and where calibrated its p-value; or its map alone."""
    assert call.array is not None, "the dispatcher reads an array for this operation"
    maps = await _maps(call, call.array) if call.request.map else None
    if maps is not None and call.accepted != JSON:
        return await arrays_answer(call, {"map": await _heat(maps) if call.accepted == PNG else maps})
    scored = await scored_as(call.request, call.loaded, call.array, call.settings, call.timing)
    fields = call.identity | scored.told | {"scores": _rows(scored.tensors)}
    body = to_json(fields) if maps is None else await json_in_pieces(fields, {"map": maps})
    headers = () if scored.how.seed is None else ((b"x-pushforward-seed", b"%d" % scored.how.seed),)
    return Answer(JSON, body, len(body), headers, len(call.array), scored.flagged, scored.p_values)


async def _maps(call: Call[ScoreOptions], items: Floats) -> Floats:
    """The maps of items, once all is checked that their scores and their number could be refused for."""
    check_scored_as(call.request, call.loaded, len(items), call.settings)
    most = call.settings.max_json_count
    if call.accepted != NPY and len(items) > most:
        raise LimitExceeded(
            f"{len(items)} maps are more than the {most} that go into {call.accepted}; ask for {NPY}"
        )
    return await call.loaded.surprise_map(items, call.timing)


async def _heat(maps: Floats) -> Floats:
    if maps.size > BESIDE_THE_LOOP_VALUES:
        return await asyncio.to_thread(heat_of, maps)
    return heat_of(maps)


def _answers(request: ScoreOptions) -> tuple[str, ...]:
    return (JSON, NPY, PNG) if request.map else (JSON,)


def _rows(tensors: Mapping[str, NDArray[Any] | None]) -> list[dict[str, Any]]:
    count = next(len(values) for values in tensors.values() if values is not None)
    nothing = [None] * count
    columns = [nothing if values is None else values.tolist() for values in tensors.values()]
    return [dict(zip(tensors, row, strict=True)) for row in zip(*columns, strict=True)]


SCORE = Operation(
    "score",
    "Score items by bounds on log p(x) or by the way through both networks (VAE), or by distances (GAN)",
    ScoreRequest,
    (JSON, NPY, PNG),
    score,
    ScoreAnswer,
    "inputs",
    ScoreOptions,
    answers_to=_answers,
    description="npy and PNG answer maps alone, and only where `map` is true.",
)
