"""Judging items by a GAN's discriminator."""

from __future__ import annotations

from typing import Any

import numpy as np

from service.api.coding import NoOptions
from service.api.exchange import JSON, Answer, Body, Call, Floats, Inputs, Operation, to_json
from service.calibration import Doubles
from service.contract import Manifest
from service.served import Served
from service.turns import Timing


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
    judged = await judgements(call.served, call.array, call.timing)
    has_ratio = "log_density_ratio" in judged
    scores = [
        {"logit": logit, "probability": probability, "log_density_ratio": logit if has_ratio else None}
        for logit, probability in zip(judged["logit"].tolist(), judged["probability"].tolist(), strict=True)
    ]
    body = to_json(call.identity | {"scores": scores})
    return Answer(JSON, body, len(body), rows=len(scores))


async def judgements(served: Served, inputs: Floats, timing: Timing) -> dict[str, Doubles]:
    """What the discriminator says of items (B, *item), each (B,), by the names of `Judgement`.

    The optimal discriminator is p_data / (p_data + p_G), whose logit is the log density ratio; where the
    training gives none, that is left out. Source: Goodfellow et al. 2014, arXiv:1406.2661, proposition 1.
    """
    logits = (await served.discriminate(inputs, timing)).astype(np.float64)
    judged = {"logit": logits, "probability": np.exp(-np.logaddexp(0.0, -logits))}
    return judged | {"log_density_ratio": logits} if gives_ratios(served.manifest) else judged


def gives_ratios(manifest: Manifest) -> bool:
    """Whether the discriminator's logits are log density ratios."""
    return manifest.discriminator is not None and manifest.discriminator.flaw is None


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
