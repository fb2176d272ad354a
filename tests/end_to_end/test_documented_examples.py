"""The requests that the API's page proposes work as they stand."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from service.api.v1.handler import OPERATIONS
from tests.serving import RunningService


@pytest.fixture
def document(service: RunningService) -> dict[str, Any]:
    described: dict[str, Any] = service.client.get("/openapi.json").json()
    return described


def filled(path: str, parameters: list[dict[str, Any]]) -> tuple[str, dict[str, Any]]:
    """The path with its examples, and the query of the others that have one."""
    examples = {each["name"]: each["example"] for each in parameters if "example" in each}
    places = {each["name"]: examples.pop(each["name"]) for each in parameters if each["in"] == "path"}
    return path.format(**places), examples


def test_every_operation_has_an_example_that_is_answered_as_it_is_described(
    client: httpx.Client, document: dict[str, Any]
) -> None:
    tried = []
    for path, methods in document["paths"].items():
        operation = OPERATIONS.get(path.rpartition("/")[2])
        is_one = path.startswith("/v1/") and "/diffusers/" not in path
        for method, described in methods.items() if operation is not None and is_one else ():
            url, query = filled(path, described["parameters"])
            body = described.get("requestBody", {}).get("content", {}).get("application/json", {})
            examples = body.get("examples", {"": {"value": None}})
            response = client.request(method, url, params=query, json=next(iter(examples.values()))["value"])
            assert response.status_code == 200, (method, url, response.text)
            assert operation is not None
            operation.answer_schema.model_validate_json(response.content)
            tried.append((method, path))
    assert {path.rpartition("/")[2] for _, path in tried} == OPERATIONS.keys()
    assert len(tried) == 2 * (len(OPERATIONS) + 1)  # with and without a version; one has GET too


def test_bodies_are_proposed_with_the_columns_of_each_table(
    client: httpx.Client, document: dict[str, Any]
) -> None:
    for operation in ("score", "encode", "reconstruct"):
        content = document["paths"][f"/v1/models/{{model}}/{operation}"]["post"]["requestBody"]["content"]
        record = content["application/json"]["examples"]["toy-table"]["value"]["records"][0]
        assert record == {"height": 0.0, "colour": "red"}
        for kind in ("application/json", "text/csv"):
            for model, example in content[kind]["examples"].items():
                url, value = f"/v1/models/{model}/{operation}", example["value"]
                sent = {"json": value} if kind == "application/json" else {"content": value.encode()}
                answer = client.post(url, headers={"content-type": kind}, **sent)
                assert answer.status_code == 200, (url, answer.text)
        assert {kind for kind in content if "examples" in content[kind]} == {"application/json", "text/csv"}


def test_every_answer_that_is_a_problem_is_one_component_and_its_status_is_put_in_words(
    document: dict[str, Any],
) -> None:
    for path, methods in document["paths"].items():
        for described in methods.values() if path.startswith("/v1/") else ():
            problems = [answer for status, answer in described["responses"].items() if status >= "400"]
            assert {answer["$ref"] for answer in problems} == {"#/components/responses/Problem"}
    statuses = document["paths"]["/v1/models/{model}/score"]["post"]["responses"]
    assert statuses["404"]["description"] == "Not found"
    assert len({answer["description"] for answer in statuses.values()}) == len(statuses)


def parts(document: Any) -> Iterator[dict[str, Any]]:
    """All objects within a document."""
    if isinstance(document, dict):
        yield document
    for inner in document.values() if isinstance(document, dict) else document:
        if isinstance(inner, dict | list):
            yield from parts(inner)


def test_every_schema_of_an_object_is_one_class_for_generators_of_clients(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    objects = {name: schema for name, schema in schemas.items() if "properties" in schema}
    unions = {"oneOf", "anyOf", "allOf"}
    assert [name for name, schema in objects.items() if unions & schema.keys()] == []
    arrays = [part for part in parts(document["components"]) if part.get("type") == "array"]
    assert [part for part in arrays if not {"items", "prefixItems"} & part.keys()] == []
    fields = [field for schema in objects.values() for field in schema["properties"].values()]
    assert [field for field in fields if field.get("type") == "null"] == []  # a type that few languages have


def test_generated_clients_hold_every_number_and_demand_no_option(document: dict[str, Any]) -> None:
    numbers = [part for part in parts(document) if part.get("type") in ("integer", "number")]
    assert {(part["type"], part["format"]) for part in numbers} == {
        ("integer", "int64"),
        ("number", "double"),
    }
    assert [part for part in parts(document) if part.get("default", ...) is None] == []


def test_options_beside_every_body_that_is_not_json_are_parameters_of_the_query(
    document: dict[str, Any],
) -> None:
    for path, methods in document["paths"].items():
        body = methods.get("post", {}).get("requestBody", {}).get("content", {}).get("application/json")
        operation = OPERATIONS.get(path.rpartition("/")[2])
        if body is not None and operation is not None and operation.array is not None:
            fields = document["components"]["schemas"][operation.request.__name__]["properties"]
            queries = [each for each in methods["post"]["parameters"] if each["in"] == "query"]
            assert {each["name"] for each in queries} == fields.keys() - {operation.array, "records"}
            assert not any("default" in each["schema"] or "example" in each for each in queries)
