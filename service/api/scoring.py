"""Scoring items by bounds on their log-likelihood, with calibrated p-values."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from service.api.exchange import JSON, Answer, Body, Call, Inputs, Operation, Seed, to_json
from service.contract import ScoreDefaults, Statistic
from service.errors import LimitExceeded
from service.served import Scores


class ScoreOptions(Body):
    """How to score; what is left out is taken from the model's manifest."""

    statistic: Statistic | None = None
    """What `surprise` is the negative of."""
    draws: Annotated[int, Field(ge=1)] | None = None
    """Latent draws per item; more draws, smaller standard errors."""
    seed: Seed | None = None
    """Names the draws, which are the same for every row."""
    alpha: Annotated[float, Field(gt=0, lt=1)] | None = None
    """The share of ordinary items that may be flagged as anomalies."""


class ScoreRequest(ScoreOptions):
    """Rows of items to score, and how."""

    inputs: Inputs


class Score(Body):
    """One item's scores, in nats per item unless named otherwise."""

    elbo: float
    standard_error: float | None
    expected_log_likelihood: float
    kl: float
    importance_bound: float
    bits_per_dimension: float | None
    surprise: float
    p_value: float | None
    anomaly: bool | None


class ScoreAnswer(Body):
    """The scores, in the order of the inputs, and how they were made."""

    model: str
    version: int
    statistic: Statistic
    draws: int
    seed: int
    alpha: float
    threshold: float | None
    unit: Literal["nats"]
    scores: list[Score]


async def score(call: Call[ScoreOptions]) -> Answer:
    """Answers the bounds of each item, its surprise, and where calibrated its p-value."""
    assert call.array is not None, "the dispatcher reads an array for this operation"
    options, rows = _complete(call.request, call.served.manifest.defaults), len(call.array)
    if options.draws > call.settings.max_draws:
        raise LimitExceeded(f"draws is {options.draws}, at most {call.settings.max_draws} are taken")
    if rows * options.draws > call.settings.max_score_cost:
        raise LimitExceeded(
            f"{rows} rows of {options.draws} draws are {rows * options.draws}, over the limit of "
            f"{call.settings.max_score_cost} a request; send fewer rows or ask for fewer draws"
        )
    scores = await call.served.score(
        call.array, options.statistic, options.draws, options.seed, options.alpha, call.timing
    )
    document = call.identity | {
        "statistic": options.statistic,
        "draws": options.draws,
        "seed": options.seed,
        "alpha": options.alpha,
        "threshold": scores.threshold,
        "unit": "nats",
        "scores": _rows(scores),
    }
    body = to_json(document)
    flagged = 0 if scores.anomaly is None else int(scores.anomaly.sum())
    return Answer(JSON, body, len(body), (("x-pushforward-seed", str(options.seed)),), rows, flagged)


def _complete(options: ScoreOptions, defaults: ScoreDefaults | None) -> ScoreDefaults:
    standard = defaults or ScoreDefaults(statistic="elbo", draws=16, seed=0, alpha=0.01)
    return standard.model_copy(update=options.model_dump(exclude_none=True, exclude={"inputs"}))


def _rows(scores: Scores) -> list[dict[str, Any]]:
    bounds, count = scores.bounds, len(scores.surprise)

    def column(values: NDArray[Any] | None) -> list[Any]:
        return [None] * count if values is None else values.tolist()

    has_error = not np.isnan(bounds.standard_error).any()
    columns = {
        "elbo": column(bounds.elbo),
        "standard_error": column(bounds.standard_error if has_error else None),
        "expected_log_likelihood": column(bounds.expected_log_likelihood),
        "kl": column(bounds.kl),
        "importance_bound": column(bounds.importance_bound),
        "bits_per_dimension": column(scores.bits_per_dimension),
        "surprise": column(scores.surprise),
        "p_value": column(scores.p_value),
        "anomaly": column(scores.anomaly),
    }
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


SCORE = Operation(
    "score",
    "Score items by bounds on log p(x)",
    ScoreRequest,
    (JSON,),
    score,
    ScoreAnswer,
    "inputs",
    ScoreOptions,
)
