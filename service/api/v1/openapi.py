"""The OpenAPI document: FastAPI's own routes and the operations, from the models that validate requests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from service.api.answer import FORM, JSON
from service.api.paths import PREFIXES
from service.api.problems import STATUS
from service.api.v1.handler import OPERATIONS
from service.api.v1.operation import Operation
from service.format.documented import Documented
from service.settings import Settings

_REF = "#/components/schemas/{model}"
_PROBLEM = {"$ref": "#/components/responses/Problem"}
_BINARY: Final = {"type": "string", "format": "binary"}
_PICTURE_FILES: Final = {
    "description": "Pictures as the files of a form.",
    "type": "object",
    "properties": {
        "file": {"description": "A row for each file.", "type": "array", "items": _BINARY},
    },
}
_TWINS = "operations of one version"
_LIMITS: Final = {
    "count": ("maximum", "max_count"),
    "budget": ("maximum", "max_budget"),
    "draws": ("maximum", "max_draws"),
    "steps": ("maximum", "max_steps"),
    "inputs": ("maxItems", "max_json_inputs"),
    "records": ("maxItems", "max_json_inputs"),
    "latents": ("maxItems", "max_json_inputs"),
}
"""The keyword and the setting that bound a field."""
_ROWS: Final = ("inputs", "records", "latents")
"""The fields that are a body by themselves, if it is not JSON."""


class ProblemFlaw(Documented):
    """One thing wrong with the request."""

    pointer: str
    """The place in the request, as a JSON pointer."""
    row: int | None
    """The number of the row, from 0; null if the flaw is not in a row."""
    message: str
    """A description of the flaw."""


class Problem(Documented):
    """RFC 9457 problem details."""

    type: str
    """The kind of problem as a URN, which ends in `code`."""
    title: str
    """The kind of problem in words."""
    status: int
    """The HTTP status."""
    detail: str
    """An explanation: what came, what was expected, and what to do."""
    code: str
    """The kind of problem, for programs."""
    request_id: str
    """The id of the request, as in the header `x-request-id` and in the service's log."""
    errors: list[ProblemFlaw] | None = None
    """Each flaw that was found in the request, up to 16 of them."""
    offered: list[str] | None = None
    """The operations that the model offers, if it does not offer this one."""


def openapi_of(
    app: FastAPI, more: Mapping[str, Any], settings: Settings, *, asks_for_keys: bool = False
) -> dict[str, Any]:
    """Return the document of an app, of the operations, which may ask for keys, and of more paths."""
    document = get_openapi(
        title=app.title,
        version=app.version,
        summary=app.summary,
        description=app.description,
        license_info=app.license_info,
        routes=app.routes,
    )
    operations = OPERATIONS.values()
    models: list[type[BaseModel]] = [Problem]
    for operation in operations:
        models += [operation.request, operation.answer_schema]
    _, schemas = models_json_schema([(model, "validation") for model in models], ref_template=_REF)
    components = document["components"]["schemas"]
    components.update(schemas["$defs"], PictureFiles=_PICTURE_FILES)
    content = {"application/problem+json": {"schema": _ref(Problem)}}
    document["components"]["responses"] = {"Problem": {"description": "A problem", "content": content}}
    for model in ("HTTPValidationError", "ValidationError"):  # FastAPI's own, which no path answers with
        del components[model]
    document["paths"].update(more)
    for path in document["paths"].values():
        for described in path.values():
            described["responses"].pop("422", None)
            described["responses"]["default"] = _PROBLEM
    for operation in operations:
        properties = components[operation.request.__name__]["properties"]
        _bound(properties, settings)
        for prefix in PREFIXES:
            path = document["paths"].setdefault(f"{prefix}/{operation.name}", {})
            path["post"] = _post(operation, properties, prefix)
            if "GET" in operation.methods:
                path["get"] = _get(operation, properties, prefix)
    document["tags"] = [
        {"name": "operations", "description": "By the version that answers for a model."},
        {"name": "diffusers", "description": "For the remote VAEs of diffusers."},
        {"name": "catalogue", "description": "The models and their versions."},
        {"name": "probes", "description": "Health and metrics."},
        {"name": _TWINS, "description": "The same operations, by the version in the path."},
    ]
    document["security"] = [{"key": []}] if asks_for_keys else []
    if asks_for_keys:
        document["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        for name, path in document["paths"].items():
            for described in path.values() if not name.startswith("/v1/") else ():
                described["security"] = []
    _prepare_for_generators(document)
    return document


def _prepare_for_generators(part: Any) -> None:
    """Make a part of the document such that generated clients hold every number, and demand no option.

    Without formats, several languages hold integers in 32 bits, which seeds exceed, and numbers in float32. A
    default of null says no more than that the field may be left out, but makes some clients require it.
    """
    if isinstance(part, dict):
        if part.get("default", ...) is None:
            del part["default"]
        if part.get("type") in ("integer", "number"):
            part.setdefault("format", "int64" if part["type"] == "integer" else "double")
        part = list(part.values())
    for inner in part if isinstance(part, list) else ():
        _prepare_for_generators(inner)


def _bound(properties: dict[str, Any], settings: Settings) -> None:
    """Add the limits of the settings to the fields of a request, also to those that may be null."""
    for name, (keyword, setting) in _LIMITS.items():
        schema = properties.get(name, {})
        for kind in schema.get("anyOf", [schema]):
            if kind.get("type") in ("integer", "array"):
                kind[keyword] = getattr(settings, setting)
                kind.pop("exclusiveMaximum", None)  # the bound of what JSON keeps exact


def _ref(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": _REF.format(model=model.__name__)}


def _content(model: type[BaseModel], media_types: Sequence[str]) -> dict[str, Any]:
    schemas = {JSON: _ref(model), FORM: {"$ref": _REF.format(model="PictureFiles")}}
    return {kind: {"schema": schemas.get(kind, _BINARY)} for kind in media_types}


def _base(operation: Operation, prefix: str, method: str) -> dict[str, Any]:
    names = ["model", "version"] if "{version}" in prefix else ["model"]
    titles: dict[int, list[str]] = {}
    for kind, status in sorted(STATUS.items(), key=lambda each: each[1]):
        titles.setdefault(status, []).append(kind.title)
    errors = {str(status): _PROBLEM | {"description": "; ".join(each)} for status, each in titles.items()}
    content = _content(operation.answer_schema, operation.answers)
    return {
        "tags": [_TWINS if "version" in names else "operations"],
        "operationId": "_".join((method, operation.name, *names[1:])),
        "summary": operation.summary,
        **({"description": operation.description} if operation.description else {}),
        "parameters": [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names
        ],
        "responses": {"200": {"description": "The answer", "content": content}, **errors},
    }


def _post(operation: Operation, properties: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    content = _content(operation.request, operation.takes)
    needed = any(field.is_required() for field in operation.request.model_fields.values())
    body = {"required": needed or operation.array is not None, "content": content}
    described = _base(operation, prefix, "post") | {"requestBody": body}
    if operation.array is not None:
        options = {name: schema for name, schema in properties.items() if name not in _ROWS}
        described["parameters"] += _query(options, beside_a_body=True)
    return described


def _get(operation: Operation, properties: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    described = _base(operation, prefix, "get")
    described["parameters"] += _query(properties, beside_a_body=False)
    return described


def _query(properties: Mapping[str, Any], *, beside_a_body: bool) -> list[dict[str, Any]]:
    """Return fields of a request as the parameters of a query.

    Those beside a body have no defaults: some clients would send them, and with JSON the query is empty.
    """
    parameters = []
    for name, schema in properties.items():
        parameter = {"name": name, "in": "query", "required": False, "schema": schema}
        if beside_a_body:
            parameter["description"] = "As in JSON; for bodies of other types."
            parameter["schema"] = {key: value for key, value in schema.items() if key != "default"}
        if name in ("label", "labels"):  # numbers or names, which are one thing in a query
            parameter["schema"] = {"type": "string", "description": schema["description"]}
        parameters.append(parameter)
    return parameters
