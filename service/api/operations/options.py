"""Base class of all options and request bodies, and the field types that several of them share."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

ArrayName = Literal["inputs", "latents"]
Seed = Annotated[int, Field(ge=0, lt=2**53, description="0 .. 2^53 - 1, exact in every JSON client")]
Count = Annotated[int, Field(ge=1, lt=2**53)]
ITEM_TEXT: Final = (
    "An item is nested lists of the model's `item_shape`, with numbers of its `support`: `binary` takes "
    "zeros and ones; `unit_interval` numbers in [0, 1]; `eight_bit` too, and rounds them to the nearest of "
    "256 levels, as a PNG would; `real` any number that is finite in float32. Each categorical one "
    "of its `columns` is one-hot: a 1 at the feature of the category, zeros at the column's other features."
)
Inputs = Annotated[list[Any], Field(description=f"Rows of items. {ITEM_TEXT}")]


class Body(BaseModel):
    """Base of all request bodies and options: strict, without unknown keys, finite numbers only."""

    model_config = ConfigDict(
        strict=True, extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


Options = TypeVar("Options", bound=Body)


class NoOptions(Body):
    """Options of the operations that have none."""
