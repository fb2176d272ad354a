"""pydantic models whose fields are described by the docstrings below them, read only when they are wanted.

pydantic's own `use_attribute_docstrings` reads the sources when the classes are made, which takes a seventh
of the time of the service's imports.
"""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import pairwise

from pydantic import BaseModel, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema


class Documented(BaseModel):
    """Base of models whose JSON schema describes each field by the docstring below it."""

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """Return the schema of pydantic, with the docstrings of fields that nothing else describes."""
        schema = handler(core_schema)
        properties = handler.resolve_ref_schema(schema).get("properties", {})
        for name, text in cls._docstrings().items():
            alias = cls.model_fields[name].alias if name in cls.model_fields else None
            if (key := name if alias is None else alias) in properties:
                properties[key].setdefault("description", text)
        return schema

    @classmethod
    def describe_fields(cls) -> None:
        """Give the fields themselves their descriptions: the help of a command line has them from there."""
        for name, text in cls._docstrings().items():
            if (field := cls.model_fields.get(name)) is not None and field.description is None:
                field.description = text

    @classmethod
    def _docstrings(cls) -> dict[str, str]:
        """Return the docstring of each field, of the nearest class that has one."""
        found: dict[str, str] = {}
        for parent in reversed(cls.__mro__):
            if issubclass(parent, Documented):
                found |= _module_docstrings(parent.__module__).get(parent.__qualname__, {})
        return found


@cache
def _module_docstrings(name: str) -> dict[str, dict[str, str]]:
    """Return the docstrings of the fields of a module's classes, by the classes' qualified names.

    There are none without the module's source.
    """
    try:
        source = inspect.getsource(sys.modules[name])
    except (KeyError, OSError, TypeError):
        return {}
    return dict(_class_docstrings(ast.parse(source).body, ""))


def _class_docstrings(body: Sequence[ast.stmt], prefix: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield the qualified names of the classes in statements, each with the strings below its fields."""
    for statement in body:
        match statement:
            case ast.ClassDef(name=name):
                yield prefix + name, dict(_field_docstrings(statement.body))
                yield from _class_docstrings(statement.body, f"{prefix}{name}.")
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield from _class_docstrings(statement.body, f"{prefix}{name}.<locals>.")


def _field_docstrings(body: Sequence[ast.stmt]) -> Iterator[tuple[str, str]]:
    """Yield the annotated names of a class, each with the string below it."""
    for statement, following in pairwise(body):
        match statement, following:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                yield name, inspect.cleandoc(text)
