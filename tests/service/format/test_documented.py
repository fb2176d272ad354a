from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, Field

from service.format.documented import Documented


class Part(Documented):
    """A part."""

    size: int
    """The size
    in rows."""


class Whole(Part):
    """Parts, and one thing more."""

    parts: tuple[Part, ...] = ()
    """The parts."""
    size: Annotated[int, Field(description="A text of its own.")]
    """A docstring that counts no more."""
    plain: str = ""


def properties(schema: dict[str, Any]) -> dict[str, Any]:
    return {name: field.get("description") for name, field in schema["properties"].items()}


def test_a_schema_describes_each_field_by_the_docstring_below_it() -> None:
    assert properties(Part.model_json_schema()) == {"size": "The size\nin rows."}


def test_a_field_of_another_name_in_json_is_described_under_that_name() -> None:
    class Renamed(Documented):
        form: Annotated[str, Field(alias="as")]
        """The form."""

    assert properties(Renamed.model_json_schema()) == {"as": "The form."}


def test_inherited_fields_and_those_of_nested_models_are_described_and_given_texts_stand() -> None:
    class Inherits(Whole):
        more: int = 0
        """More."""

    schema = Inherits.model_json_schema()
    described = {"parts": "The parts.", "size": "A text of its own.", "plain": None, "more": "More."}
    assert properties(schema) == described
    assert properties(schema["$defs"]["Part"]) == {"size": "The size\nin rows."}


def test_a_class_whose_source_is_missing_has_a_schema_without_descriptions() -> None:
    made: dict[str, Any] = {"Documented": Documented, "__name__": "no_source"}
    exec("class Made(Documented):\n    size: int\n    'The size.'\n", made)
    model: type[BaseModel] = made["Made"]
    assert properties(model.model_json_schema()) == {"size": None}


def test_the_fields_themselves_are_described_on_request() -> None:
    class Option(Whole):
        """For the help of a command."""

    Option.describe_fields()
    fields = {name: field.description for name, field in Option.model_fields.items()}
    assert fields == properties(Option.model_json_schema())
