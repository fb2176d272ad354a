"""Interpolation between two points of the latent space."""

from __future__ import annotations

from typing import Annotated, Any, Final

from pydantic import Field, create_model

from service.api.answer import Answer
from service.api.operations.call import Call
from service.api.operations.interpolate import InterpolateRequest, Point, check_steps, interpolate
from service.api.v1.encoding import ARRAYS_IN, arrays_answer, check_items
from service.api.v1.operation import ArraysAnswer, ItemsOptions, Operation, Sizes
from service.api.v1.request import nested

_MOST_COLUMNS: Final = 16


class PathRequest(ItemsOptions, InterpolateRequest):
    """A path through the latent space. It includes both ends exactly."""


def _typed_interpolation(sizes: Sizes) -> type[PathRequest]:
    """Return the body of an interpolation whose latents and inputs have the model's sizes."""
    ends: Any = {
        "latent": (nested((sizes.latent,)) | None, None),
        "input": (nested(sizes.item, or_null=sizes.takes_missing) | None, None),
    }
    point = create_model("Point", __base__=Point, **ends)
    fields: Any = {
        "start": (Annotated[point, Field(alias="from")], ...),
        "end": (Annotated[point, Field(alias="to")], ...),
    }
    return create_model("PathRequest", __base__=PathRequest, **fields)


class InterpolateAnswer(ArraysAnswer):
    """The points of the path."""

    samples: list[Any]
    """The item decoded from each point, from the first to the last."""
    latents: list[list[float]]
    """The points: rows of D numbers."""


async def _interpolate(call: Call[PathRequest], accepted: str) -> Answer:
    steps = call.options.steps
    check_steps(steps, call.settings)
    check_items(steps, accepted, call.options, call.loaded, call.settings, counted="steps")
    arrays = (await interpolate(call)).arrays
    return await arrays_answer(call, accepted, arrays, columns=min(steps, _MOST_COLUMNS))


INTERPOLATE = Operation(
    "interpolate",
    "Interpolate between two points of the latent space",
    PathRequest,
    ARRAYS_IN,
    _interpolate,
    InterpolateAnswer,
    typed=_typed_interpolation,
)
