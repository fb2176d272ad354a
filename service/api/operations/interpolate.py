"""Interpolation between two points of the latent space."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

from pydantic import ConfigDict, Field, model_validator

from service.api.operations.call import Call, Result
from service.api.operations.labels import label_of
from service.api.operations.options import ITEM_TEXT, Body, LabelOptions, Seed
from service.errors import LimitExceeded
from service.media import codecs
from service.numerics import noise
from service.numerics.noise import Floats
from service.settings import Settings


def _given(name: str, *others: str) -> dict[str, Any]:
    """Return the schema of a point that is given by one field, while others are left out or null."""
    none = {other: {"type": "null"} for other in others}
    return {"required": [name], "properties": {name: {"not": {"type": "null"}}, **none}}


class Point(Body):
    """An end of a path: exactly one of `seed` (with `index`), `latent` and `input`."""

    model_config = ConfigDict(
        json_schema_extra={
            # generators of clients read over `if`, but make of `oneOf` alone types that nobody can use
            "if": _given("seed"),
            "then": {"properties": {"latent": {"type": "null"}, "input": {"type": "null"}}},
            "else": {
                "properties": {"index": {"const": 0}},
                "oneOf": [_given("latent", "input"), _given("input", "latent")],
            },
        }
    )
    seed: Seed | None = None
    """The seed of a sample: the point is the latent of its sample `index`."""
    index: Annotated[int, Field(ge=0, lt=2**53)] = 0
    """The number of the sample, from 0."""
    latent: list[float] | None = None
    """A latent: D numbers."""
    input: Annotated[
        list[Any] | None, Field(description=f"An item to encode, if the model offers `encode`. {ITEM_TEXT}")
    ] = None

    @model_validator(mode="after")
    def _is_one_point(self) -> Point:
        given = [name for name in ("seed", "latent", "input") if getattr(self, name) is not None]
        if len(given) != 1 or (self.index and self.seed is None):
            raise ValueError("give exactly one of seed (with index), latent and input")
        return self


class InterpolateRequest(LabelOptions):
    """A path through the latent space. It includes both ends exactly."""

    start: Annotated[Point, Field(alias="from")]
    """The first point of the path."""
    end: Annotated[Point, Field(alias="to")]
    """The last point of the path."""
    steps: Annotated[int, Field(ge=2, lt=2**53)] = 10
    """The number of points on the path, both ends included."""
    path: Literal["spherical", "linear"] = "spherical"
    """`spherical`: along the great circle, where a Gaussian prior has its mass. `linear`: a straight line."""


AnyPath = TypeVar("AnyPath", bound=InterpolateRequest)


def check_steps(steps: int, settings: Settings) -> None:
    """Raise LimitExceeded if a path has more points than are taken."""
    if steps > settings.max_steps:
        raise LimitExceeded(f"steps is {steps}, at most {settings.max_steps} are taken")


async def interpolate(call: Call[AnyPath]) -> Result:
    """Return the latents (steps, D) along a path between two points, and the items decoded from them."""
    options = call.options
    check_steps(options.steps, call.settings)
    loaded = call.loaded
    label = label_of(loaded.manifest, options.label)
    start = await _latent(call, options.start, "from", label)
    end = await _latent(call, options.end, "to", label)
    walk = noise.spherical_path if options.path == "spherical" else noise.linear_path
    latents = walk(start[0], end[0], options.steps)
    samples = await loaded.decode(latents, call.timing, loaded.one_hot(label, len(latents)))
    return Result({"samples": samples, "latents": latents})


async def _latent(call: Call[AnyPath], point: Point, name: str, label: int | None) -> Floats:
    """Return the latent (1, D) at an end of the path; an item there is of that class."""
    loaded, manifest = call.loaded, call.loaded.manifest
    if point.latent is not None:
        latent = codecs.from_lists([point.latent], (manifest.latent_size,), f"{name}/latent")
        codecs.check_support(latent, "latent", f"{name}/latent")
        return latent
    if point.input is not None:
        manifest.require("encode")
        item = codecs.from_lists([point.input], manifest.item_shape, f"{name}/input")
        codecs.check_support(
            item, manifest.support, f"{name}/input", manifest.columns, takes_missing=manifest.takes_missing
        )
        mean, _ = await loaded.encode(item, call.timing, loaded.one_hot(label, 1))
        return mean
    assert point.seed is not None, "a point is given by one of the three"
    return loaded.prior.latents(point.seed, point.index, 1, 1.0)
