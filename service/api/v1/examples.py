"""Example requests in the OpenAPI document. They work as they stand with the models that are served."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable
from itertools import product
from typing import Any, Final, NamedTuple

import numpy as np

from service.api.answer import CSV, JSON
from service.api.operations.options import LabelOptions
from service.api.paths import PREFIXES
from service.api.v1.handler import OPERATIONS
from service.format.columns import column_places
from service.format.manifest import Manifest
from service.media.tables.writing import csv_text

_ITEMS: Final = tuple(name for name, operation in OPERATIONS.items() if operation.array == "inputs")
"""The operations whose body is items."""
_LABELLED: Final = [name for name, each in OPERATIONS.items() if issubclass(each.request, LabelOptions)]
"""The operations that take a class."""
_MOST_TABLES: Final = 8
"""The largest number of models of tables with examples of their own, so that the document stays small."""


class Example(NamedTuple):
    """A request of an operation: the model and version in its path, and its JSON body."""

    model: str
    version: int
    body: dict[str, Any]


def examples_of(manifests: Iterable[Manifest]) -> dict[str, Example]:
    """Return a request for each operation that is offered, made for the smallest items that there are."""
    found: dict[str, Example] = {}
    for manifest in sorted(manifests, key=lambda each: -math.prod(each.item_shape)):
        bodies: dict[str, dict[str, Any]] = {
            "sample": {"seed": 7, "count": 2},
            "interpolate": {"from": {"seed": 1}, "to": {"seed": 1, "index": 1}, "steps": 3},
            "decode": {"latents": [[0.0] * manifest.latent_size]},
            **{name: {"inputs": [_plain_item(manifest)]} for name in _ITEMS},
        }
        if manifest.conditional:
            for operation in _LABELLED:
                bodies[operation]["label"] = manifest.class_names[0]
        for operation in manifest.operations:
            found[operation] = Example(manifest.name, manifest.version, bodies[operation])
    return found


def table_examples_of(manifests: Iterable[Manifest]) -> dict[str, list[Example]]:
    """Return a request for each operation that takes rows by name, for the models of tables, up to a few."""
    found: dict[str, list[Example]] = {name: [] for name in _ITEMS}
    for manifest in manifests:
        for operation in _ITEMS:
            if manifest.columns and operation in manifest.operations and len(found[operation]) < _MOST_TABLES:
                body = {"records": [_plain_record(manifest)]}
                found[operation].append(Example(manifest.name, manifest.version, body))
    return found


def with_examples(document: dict[str, Any], manifests: Iterable[Manifest]) -> dict[str, Any]:
    """Return a copy of an OpenAPI document with examples for the models of these manifests.

    Rows of a table have the names of its own columns. The examples of a body are named after their models.
    """
    document = copy.deepcopy(document)
    manifests = list(manifests)
    found, tables = examples_of(manifests), table_examples_of(manifests)
    for prefix, (operation, example) in product(PREFIXES, found.items()):
        values = {"model": example.model, "version": str(example.version), **example.body}
        for described in document["paths"][f"{prefix}/{operation}"].values():
            for parameter in described["parameters"]:
                beside_a_body = "requestBody" in described and parameter["in"] == "query"
                if parameter["name"] in values and not beside_a_body:
                    parameter["example"] = values[parameter["name"]]
            if "requestBody" in described:
                content = described["requestBody"]["content"]
                shown = {each.model: each for each in (example, *tables.get(operation, ()))}
                content[JSON]["examples"] = {
                    name: {"summary": f"for {name}", "value": each.body} for name, each in shown.items()
                }
                for each in tables.get(operation, ())[:1]:
                    record = each.body["records"][0]
                    text = csv_text({name: [value] for name, value in record.items()})
                    content[CSV]["examples"] = {each.model: {"summary": f"for {each.model}", "value": text}}
    return document


def _plain_record(manifest: Manifest) -> dict[str, Any]:
    """Return a row of the columns of a table, with 0 for numbers, the first categories and class."""
    of_class = {} if manifest.label_column is None else {manifest.label_column: manifest.class_names[0]}
    return {
        **{column.name: column.categories[0] if column.categories else 0.0 for column in manifest.columns},
        **of_class,
    }


def _plain_item(manifest: Manifest) -> list[Any]:
    """Return an item of zeros, in which every category is the first."""
    item = np.zeros(manifest.item_shape)
    for column, place in column_places(manifest.columns):
        if column.categories:
            item[place.start] = 1
    values: list[Any] = item.tolist()
    return values
