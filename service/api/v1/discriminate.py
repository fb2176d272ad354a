"""Judging items by a GAN's discriminator."""

from __future__ import annotations

from typing import Any

from service.api.answer import JSON, Answer, to_json
from service.api.operations.discriminate import judgements
from service.api.operations.options import Body, Inputs, NoOptions
from service.api.v1.operation import Call, Operation


class DiscriminateRequest(Body):
    """Rows of items to judge."""

    inputs: Inputs


class Judgement(Body):
    """What the discriminator says of one item, in nats."""

    logit: float
    """Calibrated on held-out items, where the discriminator is one of single items."""
    probability: float
    """1 / (1 + exp(-logit)): that the item is real, if as many are real as generated."""
    log_density_ratio: float | None
    """log p_data(x) / p_G(x), the optimal discriminator's logit; null where the training gives none."""


class DiscriminateAnswer(Body):
    """The judgements, in the order of the inputs."""

    model: str
    version: int
    scores: list[Judgement]


async def discriminate(call: Call[Any]) -> Answer:
    """Answers the discriminator's logit of each item, and what it means."""
    assert call.array is not None, "the dispatcher reads an array for this operation"
    judged = await judgements(call.loaded, call.array, call.timing)
    has_ratio = "log_density_ratio" in judged
    scores = [
        {"logit": logit, "probability": probability, "log_density_ratio": logit if has_ratio else None}
        for logit, probability in zip(judged["logit"].tolist(), judged["probability"].tolist(), strict=True)
    ]
    body = to_json(call.identity | {"scores": scores})
    return Answer(JSON, body, len(body), rows=len(scores))


DISCRIMINATE = Operation(
    "discriminate",
    "Judge items by a GAN's discriminator",
    DiscriminateRequest,
    (JSON,),
    discriminate,
    DiscriminateAnswer,
    "inputs",
    NoOptions,
)
