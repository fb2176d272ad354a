"""Walking between two points of the latent space."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import Field, create_model, model_validator

from service.api.answer import JSON, NPY, PNG, Answer
from service.api.operations.options import ITEM_TEXT, Body, Seed
from service.api.v1.operation import Call, Operation, Sizes, arrays_answer
from service.api.v1.request import nested
from service.errors import LimitExceeded, Unfit
from service.media import codecs
from service.numerics import noise
from service.numerics.noise import Floats

_MOST_COLUMNS: Final = 16


class Point(Body):
    """An end of a path: exactly one of `seed` (with `index`), `latent` and `input`."""

    seed: Seed | None = None
    """A seed, whose sample number `index` is meant."""
    index: Annotated[int, Field(ge=0, lt=2**53)] = 0
    """The number of the sample of the seed."""
    latent: list[float] | None = None
    """A latent itself, D numbers."""
    input: Annotated[
        list[Any] | None,
        Field(description=f"An item, whose encoding is meant; the model offers `encode`. {ITEM_TEXT}"),
    ] = None

    @model_validator(mode="after")
    def _is_one_point(self) -> Point:
        given = self.model_fields_set - {"index"}
        if len(given) != 1 or ("index" in self.model_fields_set and "seed" not in given):
            raise ValueError("give exactly one of seed (with index), latent and input")
        return self


class InterpolateRequest(Body):
    """A path through the latent space, both ends included exactly."""

    start: Annotated[Point, Field(alias="from")]
    """Where the path begins."""
    end: Annotated[Point, Field(alias="to")]
    """Where it ends."""
    steps: Annotated[int, Field(ge=2, lt=2**53)] = 10
    """Points on the path, both ends counted."""
    path: Literal["spherical", "linear"] = "spherical"
    """Along the great circle, where a Gaussian prior has its mass, or straight."""


def _typed_interpolation(sizes: Sizes) -> type[Body]:
    """The body of an interpolation whose latents and inputs have the model's sizes."""
    ends: Any = {"latent": (nested((sizes.latent,)), None), "input": (nested(sizes.item), None)}
    point = create_model("Point", __base__=Point, **ends)
    fields: Any = {
        "start": (Annotated[point, Field(alias="from")], ...),
        "end": (Annotated[point, Field(alias="to")], ...),
    }
    return create_model("InterpolateRequest", __base__=InterpolateRequest, **fields)


class InterpolateAnswer(Body):
    """The decoded path."""

    model: str
    version: int
    shape: list[int]
    samples: list[Any]
    latents: list[list[float]]


async def interpolate(call: Call[InterpolateRequest]) -> Answer:
    """Answers the items along a path between two points."""
    request = call.request
    if request.steps > call.settings.max_steps:
        raise LimitExceeded(f"steps is {request.steps}, at most {call.settings.max_steps} are taken")
    start, end = [
        await _latent(call, point, name) for point, name in ((request.start, "from"), (request.end, "to"))
    ]
    walk = noise.spherical_path if request.path == "spherical" else noise.linear_path
    latents = walk(start[0], end[0], request.steps)
    samples = await call.loaded.decode(latents, call.timing)
    arrays = {"samples": samples, "latents": latents}
    return await arrays_answer(call, arrays, columns=min(request.steps, _MOST_COLUMNS))


async def _latent(call: Call[InterpolateRequest], point: Point, name: str) -> Floats:
    """The latent (1, D) that is meant by an end of a path."""
    loaded = call.loaded
    manifest = loaded.manifest
    if point.latent is not None:
        latent = codecs.from_lists([point.latent], (manifest.latent_size,), f"{name}/latent")
        codecs.check_support(latent, "latent", f"{name}/latent")
        return latent
    if point.input is not None:
        loaded.require("encode")
        item = codecs.from_lists([point.input], manifest.item_shape, f"{name}/input")
        codecs.check_support(item, manifest.support, f"{name}/input", manifest.columns)
        mean, _ = await loaded.encode(item, call.timing)
        return mean
    if point.seed is None:
        raise Unfit(f"`{name}` has a null seed; give a number")
    return loaded.prior.latents(point.seed, point.index, 1, 1.0)


INTERPOLATE = Operation(
    "interpolate",
    "Walk between two points of the latent space",
    InterpolateRequest,
    (JSON, NPY, PNG),
    interpolate,
    InterpolateAnswer,
    typed=_typed_interpolation,
)
