"""Scoring items by a GAN's discriminator."""

from __future__ import annotations

from service.api.answer import Answer
from service.api.operations import discriminate
from service.api.operations.call import Call
from service.api.operations.options import Body, RowLabelOptions
from service.api.v1.encoding import SCORES_IN, scores_answer
from service.api.v1.operation import Conversions, Id, ItemsRequest, ModelAnswer, Operation


class DiscriminateRequest(RowLabelOptions, ItemsRequest):
    """Rows of items to score by the discriminator."""


class DiscriminatorScore(Body):
    """The discriminator's scores of one item."""

    id: Id = None
    logit: float
    """The discriminator's output, in nats. It is calibrated on held-out items if the discriminator takes
    single items."""
    probability: float
    """1 / (1 + exp(-logit)): the probability that the item is real, if real and generated items are equally
    frequent."""
    log_density_ratio: float | None
    """log p_data(x) / p_G(x) in nats, the optimal discriminator's logit; null if the discriminator's training
    gives none."""


class DiscriminateAnswer(ModelAnswer):
    """The discriminator's scores."""

    conversions: Conversions = None
    scores: list[DiscriminatorScore]
    """The scores of each item, in the order of the inputs."""


async def _discriminate(call: Call[RowLabelOptions], accepted: str) -> Answer:
    return await scores_answer(call, await discriminate.discriminate(call), accepted)


DISCRIMINATE = Operation(
    "discriminate",
    "Score items by a GAN's discriminator",
    DiscriminateRequest,
    SCORES_IN,
    _discriminate,
    DiscriminateAnswer,
    "inputs",
    RowLabelOptions,
)
