"""Base class of all options and request bodies, and the field types that several of them share."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, TypeVar

from pydantic import BeforeValidator, ConfigDict, Field, GetCoreSchemaHandler
from pydantic_core import CoreSchema

from service.format.documented import Documented


class _OneFault:
    """Makes a value that fits no member of a union one fault, in the place of the value.

    Without it there is one for each member, in places that no request has.
    """

    def __init__(self, message: str) -> None:
        self._message = message

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        schema = handler(source)
        assert schema["type"] == "union", "others have one fault"
        return {**schema, "custom_error_type": "no_member", "custom_error_message": self._message}


def _without_underscore(given: Any) -> Any:
    """Return what came for the number of a class; `1_0`, which pydantic reads as 10, may be a name."""
    if isinstance(given, str) and "_" in given:
        raise ValueError("it has an underscore")
    return given


ArrayName = Literal["inputs", "latents"]
Seed = Annotated[int, Field(ge=0, lt=2**53, description="0 .. 2^53 - 1, exact in every JSON client")]
Count = Annotated[int, Field(ge=1, lt=2**53)]
Label = Annotated[
    Annotated[int, Field(ge=0, lt=2**53), BeforeValidator(_without_underscore)]
    | Annotated[str, Field(min_length=1, max_length=200)],
    _OneFault("wanted a class by its number, from 0, or its name, of at most 200 characters"),
]
_MOST_LABELS: Final = 2**16
ITEM_TEXT: Final = (
    "An item is nested lists of the model's `item_shape`, with numbers of its `support`: `binary` takes "
    "zeros and ones; `unit_interval` numbers in [0, 1]; `eight_bit` too, and rounds them to the nearest of "
    "256 levels, as a PNG would; `real` any number that is finite in float32. Categorical `columns` "
    "are one-hot: a 1 at the feature of the category, zeros at the column's other features. "
    "If the model's manifest says `takes_missing`, null in JSON and NaN in npy are a missing value, in all "
    "features of a category."
)
Inputs = Annotated[
    Annotated[list[Any], Field(min_length=1)] | None, Field(description=f"Rows of items. {ITEM_TEXT}")
]
RECORD_TEXT: Final = (
    "A record is an object with a value for each of the model's `columns`, by name: a number, or the name of "
    "a category. Booleans are 1 and 0 in a column of numbers, and a text may write a number or a boolean. "
    "Other columns of the training table (the manifest's `left_out`) are ignored, and unknown columns are "
    "refused. A new category is treated as the column's `unseen` says."
)
Cell = float | str | bool | None
Records = Annotated[
    Annotated[list[dict[str, Cell]], Field(min_length=1)] | None,
    Field(description=f"Rows of a table. {RECORD_TEXT}"),
]


class Body(Documented):
    """Base of all request bodies and options: strict, without unknown keys, finite numbers only."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


Options = TypeVar("Options", bound=Body)


class LabelOptions(Body):
    """The option of the operations that take a class, where the version was trained with classes."""

    label: Label | None = None
    """The class, for versions with a class condition: a number from 0, or else one of `class_names`."""


def _separated(given: Any) -> Any:
    """Return the labels in a text, which a query string has, as a list."""
    return [label.strip() for label in given.split(",")] if isinstance(given, str) else given


Labels = Annotated[list[Label], BeforeValidator(_separated), Field(min_length=1, max_length=_MOST_LABELS)]


class RowLabelOptions(LabelOptions):
    """Options of the operations on rows: the class of all rows, or of each."""

    labels: Labels | None = None
    """The class of each row, instead of `label`: a list in JSON; in a query string and in `/v2` a text
    with commas between the labels."""


class NoOptions(Body):
    """Options of the operations that have none."""
