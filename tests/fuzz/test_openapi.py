"""Requests that schemathesis makes of our OpenAPI document, valid and invalid; it needs a tool of its own."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import toy
from tests.conftest import REPOSITORY
from tests.serving import RunningService, running_service
from tests.toy_gan import publish_gan
from tests.toy_table import publish_table

pytestmark = [pytest.mark.fuzz, pytest.mark.timeout(300)]
SECONDS = "75"
SECONDS_OF_VALID_ONES = "30"
SEED = os.environ.get("FUZZ_SEED", "1")
"""The seed is fixed, so that a new failure comes from the change under test; other seeds find more."""
HOOKS = """
import schemathesis

@schemathesis.serializer(
    "application/x-npy", "application/vnd.apache.parquet", "application/zip", "image/bmp", "image/tiff"
)
def as_bytes(context, value):
    return value if isinstance(value, bytes) else str(value).encode()
"""
"""Bodies that schemathesis has no way to write: any bytes stand for them, which the service has to refuse."""
REFUSALS = """
[checks.negative_data_rejection]
expected-statuses = [400, 401, 403, 404, 405, 406, 409, 413, 415, 422, 428, 429, "5xx"]
"""
"""The statuses that refuse a request against the schema: those of schemathesis, and 413 for a large one."""
WHOLE_NUMBERS = """
@schemathesis.hook
def map_body(context, body):
    if isinstance(body, dict):
        return {name: map_body(context, value) for name, value in body.items()}
    return int(body) if isinstance(body, float) and body.is_integer() else body
"""
"""JSON Schema takes 18.0 as an integer; the service refuses it: a computed count may be 17.9 next."""
TOOL = Path(os.environ.get("SCHEMATHESIS", REPOSITORY / ".venv-fuzz/bin/schemathesis"))


@pytest.fixture(scope="module")
def toys(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    models = tmp_path_factory.mktemp("models")
    toy.publish_toy(models)
    publish_gan(models)
    publish_table(models)
    with running_service(models) as service:
        yield service


def check(service: RunningService, folder: Path, *arguments: str, hooks: str = HOOKS) -> None:
    """Run schemathesis; the service leaves no trace of an error."""
    (folder / "hooks.py").write_text(hooks)
    (folder / "schemathesis.toml").write_text(REFUSALS)
    command = [str(TOOL), "run", *arguments, "--seed", SEED, "--continue-on-failure", "--no-color"]
    environment = os.environ | {"SCHEMATHESIS_HOOKS": "hooks"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment)
    assert done.returncode == 0, done.stdout[-8_000:]
    assert not any("Traceback" in line for line in service.lines)


def test_what_the_document_says_is_what_is_answered(toys: RunningService, tmp_path: Path) -> None:
    """All checks but that of the next test."""
    excluded = ("--exclude-checks", "positive_data_acceptance")
    check(toys, tmp_path, f"{toys.url}/openapi.json", "--max-time", SECONDS, "--checks", "all", *excluded)


def whole(least: int, most: int) -> dict[str, Any]:
    return {"type": "integer", "minimum": least, "maximum": most}


def narrowed(document: dict[str, Any]) -> dict[str, Any]:
    """Return the document of one model, with facts that the one of all models cannot state.

    - The names and versions of models, and the sizes and values of their rows.
    - What a version lacks: classes, columns, a discriminator, maps, p-values of another statistic.
    - Products of fields, sums of fields, and the limits of JSON beside those of npy.
    - The bytes of other media types than JSON, and the options beside them; and in a query, where no schema
      is of two fields together, the choice of samples.
    """
    rows = {"type": "array", "minItems": 1, "maxItems": 8}
    numbers = rows | {"items": {"type": "number", "minimum": -9, "maximum": 9}, "minItems": 2, "maxItems": 2}
    bits: dict[str, Any] = {"enum": [0, 1]}
    for size in reversed(toy.ITEM):
        bits = {"type": "array", "minItems": size, "maxItems": size, "items": bits}
    null = {"type": "null"}
    fields: dict[str, Any] = {
        "inputs": rows | {"items": bits}, "latents": rows | {"items": numbers},
        "input": bits, "latent": numbers,
        "records": null, "id": null, "label": null, "labels": null, "as": {"enum": [None, "arrays"]},
        "method": {"const": "direct"}, "budget": null, "statistic": {"enum": [None, "elbo"]},
        "draws": {"enum": [None, 1, 8]}, "alpha": {"enum": [None, 0.2]}, "correction": {"const": "none"},
        "map": {"const": False}, "overlay": {"const": False}, "columns": {"const": False},
        "count": whole(1, 32), "steps": whole(2, 32), "offset": whole(0, 2**52), "index": whole(0, 2**52),
    }  # fmt: skip
    for schema in document["components"]["schemas"].values():
        properties = schema.get("properties", {})
        properties.update({name: fields[name] for name in properties.keys() & fields.keys()})
    names = {"model": {"enum": ["toy-vae"]}, "version": {"enum": ["1"]}}
    for path in document["paths"].values():
        for described in path.values():
            for parameter in described.get("parameters", ()):
                parameter.pop("example", None)
                parameter["schema"] = (names | fields).get(parameter["name"], parameter["schema"])
            described["parameters"] = [
                parameter
                for parameter in described.get("parameters", ())
                if parameter["in"] != "query"
                or (parameter["schema"] != null and "requestBody" not in described)
            ]
            content = described.get("requestBody", {}).get("content", {})
            for kind in content.keys() - {"application/json"}:
                del content[kind]
            for body in content.values():
                body.pop("examples", None)
    return document


def test_what_the_document_allows_is_taken(toys: RunningService, tmp_path: Path) -> None:
    document = tmp_path / "document.json"
    document.write_text(json.dumps(narrowed(toys.client.get("/openapi.json").json())))
    where = (str(document), "--url", toys.url, "--max-time", SECONDS_OF_VALID_ONES)
    check(
        toys,
        tmp_path,
        *where,
        "--mode",
        "positive",
        "--checks",
        "positive_data_acceptance",
        hooks=HOOKS + WHOLE_NUMBERS,
    )
