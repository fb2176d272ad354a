"""Operations under `/v1`: their description, and the parts that their requests and answers share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from service.api.answer import CSV, FORM, JSON, NPY, PARQUET, PICTURES, ZIP, Answer
from service.api.operations.call import Call
from service.api.operations.options import ArrayName, Body, Inputs, NoOptions, Records
from service.runtime.model import LoadedModel
from service.settings import Settings

Id = Annotated[Any, Field(description="The id of the row; only if the request names an `id`")]
Conversions = Annotated[
    list[list[str]] | None,
    Field(
        description="For each row, what was done to its picture to make an item of it, by the version's "
        "`picture`; only if pictures came, and the version says how they are read"
    ),
]

_GIVEN: Final[dict[str, Any]] = {"not": {"type": "null"}}


class ModelAnswer(Body):
    """Base of all JSON answers of operations."""

    model: str
    """The name of the model that answered."""
    version: int
    """Its version."""


class ArraysAnswer(ModelAnswer):
    """Base of the JSON answers whose first array has a shape."""

    shape: list[int]
    """The shape of the first array below, also where it is answered as records: rows, then `item_shape`."""
    ids: list[Any] | None = None
    """The id of each row, if the request names an `id`."""
    conversions: Conversions = None


class ItemsRequest(Body):
    """Base of the request bodies of items: exactly one of `inputs` and `records`."""

    # generators of clients read over `if`, but make of `oneOf` types that nobody can use
    model_config = ConfigDict(
        json_schema_extra={
            "if": {"required": ["inputs"], "properties": {"inputs": _GIVEN}},
            "then": {"properties": {"records": {"type": "null"}, "id": {"type": "null"}}},
            "else": {"required": ["records"], "properties": {"records": _GIVEN}},
        }
    )
    inputs: Inputs = None
    records: Records = None
    id: Annotated[str, Field(min_length=1)] | None = None
    """With records, the name of a column that identifies the rows and that the model does not know: the
    answer has its value for each row."""

    @model_validator(mode="after")
    def _has_one_form_of_rows(self) -> Self:
        if (self.inputs is None) == (self.records is None):
            raise ValueError("give exactly one of inputs and records")
        if self.id is not None and self.records is None:
            raise ValueError("id names a column of records; inputs have none")
        return self


class ItemsOptions(Body):
    """Options of the answers that hold items."""

    scale: Annotated[int, Field(ge=1, le=64)] = 1
    """Pixels of a PNG for each pixel of an image, along both sides: small images are enlarged without blur.
    Other answers, and plots of densities, do not depend on it."""
    form: Annotated[Literal["arrays", "records"] | None, Field(alias="as")] = None
    """JSON of tables. `records`: each item is an object of values by column, with the name of its most
    probable category; `arrays`: a list of features. Null is `records` for rows that came by name, else
    `arrays`."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """Sizes that a model's requests must have: D, the item's shape, and the most rows of a JSON body."""

    latent: int
    item: tuple[int, ...]
    max_rows: int
    takes_missing: bool = False
    """True if null in an item is a missing value."""

    def row(self, array: ArrayName) -> tuple[int, ...]:
        """Return the shape of one row of an array."""
        return (self.latent,) if array == "latents" else self.item


@dataclass(frozen=True, slots=True, eq=False)
class Operation:
    """An operation under `/v1`; the handler and the OpenAPI document are built from these."""

    name: str
    summary: str
    request: type[Body]
    """The JSON body as documented."""
    answers: tuple[str, ...]
    """Media types of the answer; the first is the default."""
    answer: Callable[[Call[Any], str], Awaitable[Answer]]
    """Runs the operation and encodes its result in an accepted media type."""
    answer_schema: type[ModelAnswer]
    array: ArrayName | None = None
    """The field of the body that holds rows."""
    options: type[Body] = NoOptions
    """The other fields, which are the query if the array comes alone, as npy or as a picture."""
    typed: Callable[[Sizes], type[Body]] | None = None
    """Makes the body for a model's sizes, where more than the rows of `array` depends on them."""
    answers_to: Callable[[Any], tuple[str, ...]] | None = None
    """Returns those of `answers` that a request can have, where that depends on its options."""
    methods: tuple[str, ...] = ("POST",)
    """HTTP methods; with GET the request is the query."""
    completed: Callable[[Any, LoadedModel, str, Settings], Any] | None = None
    """Checks and completes a request for a media type, before any work."""
    description: str = ""
    """Says in the documentation what neither the summary nor the texts of the fields can."""

    @property
    def takes(self) -> tuple[str, ...]:
        """Content types of the body."""
        if self.array is None:
            return (JSON,)
        return (JSON, NPY) if self.array == "latents" else (JSON, NPY, CSV, PARQUET, *PICTURES, FORM, ZIP)
