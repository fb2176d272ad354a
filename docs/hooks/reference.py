"""A MkDocs hook that makes the reference tables from the code while the site is built.

A page names a table in a comment on a line of its own, `<!-- table: settings -->`; `TABLES` lists the names.
The hook also keeps the site closed: links from a page to files outside `docs/` become plain text.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import posixpath
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, Final

import httpx
import typer
from prometheus_client.metrics import MetricWrapperBase
from typer.testing import CliRunner

from pushforward.command.app import app as root
from service.api.open_inference.codes import CODES
from service.api.problems import STATUS
from service.app import create_app
from service.errors import ServiceError
from service.format.manifest import Manifest
from service.observe.metrics import Metrics
from service.settings import Settings
from training.__main__ import app as training
from training.recipe import Recipe

Schema = dict[str, Any]

_TABLE: Final = re.compile(r"^<!-- table: ([a-z-]+)(?: ([a-z-]+))? -->$", re.MULTILINE)
_LINK: Final = re.compile(r"(?<!!)\[([^]]*)\]\(((?:\.\./)[^)\s]*)\)")
_UNITS: Final = {"seconds": "s", "bytes": "bytes", "rows": "rows"}
"""The unit of a value whose name ends so."""
_BOUNDS: Final = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
PASSED_ON: Final = ("serve", "train")
"""The commands of `pushforward` whose options are those of another command."""
_HELP_ENVIRONMENT: Final = {"COLUMNS": "86", "NO_COLOR": "1", "TERM": "dumb"}


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Replace each table's comment by the table, and each link out of `docs/` by its text."""
    folder = posixpath.dirname(page.file.src_uri)

    def inside(link: re.Match[str]) -> str:
        leaves = posixpath.normpath(posixpath.join(folder, link[2])).startswith("..")
        return link[1] if leaves else link[0]

    return _LINK.sub(inside, with_tables(markdown))


def with_tables(markdown: str) -> str:
    """A page with its tables in the places of their comments.

    Raises:
        KeyError: A comment names a table that does not exist.
    """
    return _TABLE.sub(lambda found: TABLES[found[1]](*filter(None, [found[2]])), markdown)


def settings() -> str:
    """Every option of the service."""
    return _settings_table(lambda _: True)


def limits() -> str:
    """The options of the service that bound a request, a queue or a time."""
    return _settings_table(lambda name: name.startswith("max_") or name.endswith("_seconds"))


def recipe() -> str:
    """Every key of a recipe, one table for each table of the TOML file."""
    schema = Recipe.model_json_schema()
    text = "\n\n".join(_object_tables(schema, schema["$defs"], level=2))
    for name, field in schema["properties"].items():
        for options in _references(field):
            text = text.replace(options, f"`[{name}]`")
    return text


def manifest() -> str:
    """Every key of `manifest.json`, one table for each kind of object."""
    schema = Manifest.model_json_schema()
    return "\n\n".join(_object_tables(schema, schema["$defs"], level=3))


def metrics() -> str:
    """Every Prometheus metric, with its labels."""
    collectors = Metrics().registry._collector_to_names  # the registry has no public list of its metrics
    rows = []
    for metric in collectors:
        assert isinstance(metric, MetricWrapperBase)
        described = next(iter(metric.describe()))
        name = described.name + ("_total" if described.type == "counter" else "")
        unit = _UNITS.get(described.name.rsplit("_", 1)[1], "")
        labels = ", ".join(f"`{label}`" for label in metric._labelnames)
        rows.append((f"`{name}`", described.type, labels, unit, described.documentation))
    return _table(("metric", "type", "labels", "unit", "meaning"), sorted(rows))


def errors() -> str:
    """Every class of error, indented as it inherits, with its code and its statuses."""
    rows = []
    for kind, depth in _family(ServiceError):
        grpc = _nearest(kind, CODES).name
        meaning = (inspect.getdoc(kind) or "").partition("\n")[0]
        indent = "&emsp;" * depth
        rows.append(
            (f"{indent}`{kind.__name__}`", f"`{kind.code}`", str(_nearest(kind, STATUS)), grpc, meaning)
        )
    return _table(("class", "`code`", "HTTP", "gRPC", "meaning"), rows)


def routes() -> str:
    """Every path of the service but those of the Open Inference Protocol."""
    rows = []
    for path, methods in _openapi()["paths"].items():
        if "{version}/" not in path:  # the same operations, of a fixed version
            described = next(iter(methods.values()))
            key = "summary" if described["tags"] in (["operations"], ["diffusers"]) else "description"
            purpose = described[key].partition("\n")[0].rstrip(".")
            rows.append((", ".join(sorted(map(str.upper, methods))), f"`{path}`", purpose))
    return _table(("method", "path", "purpose"), rows)


def operation(name: str) -> str:
    """An operation: what it reads and answers, and the keys of both."""
    document = _openapi()
    definitions = document["components"]["schemas"]
    post = document["paths"][f"/v1/models/{{model}}/{name}"]["post"]
    parts = [f"{post['summary']}. {post.get('description', '')}".strip()]
    for side, described in (("Request", post["requestBody"]), ("Answer", post["responses"]["200"])):
        content = described["content"]
        schema = definitions[content["application/json"]["schema"]["$ref"].rsplit("/", 1)[1]]
        parts.append(f"**{side}**: {', '.join(f'`{kind}`' for kind in content)}.")
        parts += _object_tables(schema, definitions, level=4, defaults=side == "Request")
    return "\n\n".join(parts)


def commands(name: str) -> str:
    """The help of a command, and that of each of its own commands."""
    if name == "pushforward":
        return "\n\n".join(_typer_help(root, name, PASSED_ON))
    if name == "pushforward-train":
        return "\n\n".join(_typer_help(training, name))
    load = f"points(group='console_scripts', name={name!r})[{name!r}].load()"
    code = (
        f"from importlib.metadata import entry_points as points; import sys; sys.argv[0] = {name!r}; {load}()"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, "--help"],
        env={**_HELP_ENVIRONMENT, "PYTHONPATH": ":".join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        check=True,
    )
    return f"```text\n{run.stdout.strip()}\n```"


TABLES: Final[Mapping[str, Callable[..., str]]] = {
    "settings": settings,
    "limits": limits,
    "recipe": recipe,
    "manifest": manifest,
    "metrics": metrics,
    "errors": errors,
    "routes": routes,
    "operation": operation,
    "commands": commands,
}


def _typer_help(app: typer.Typer, program: str, left_out: Sequence[str] = ()) -> Iterator[str]:
    """The help of a typer app and, in order, of each of its commands and of theirs."""
    waiting: list[tuple[list[str], Any]] = [([], typer.main.get_command(app))]
    while waiting:
        path, command = waiting.pop(0)
        shown = CliRunner().invoke(app, [*path, "--help"], prog_name=program, env=_HELP_ENVIRONMENT).output
        lines = "\n".join(line.rstrip() for line in shown.strip().splitlines())
        yield f"### `{' '.join([program, *path])}`\n\n```text\n{lines}\n```"
        inner = getattr(command, "commands", {})
        waiting[:0] = [([*path, name], inner[name]) for name in inner if name not in left_out]


@cache
def _openapi() -> Schema:
    async def document() -> Schema:
        transport = httpx.ASGITransport(create_app(Settings(device="cpu")).app)
        async with httpx.AsyncClient(transport=transport, base_url="http://reference") as client:
            answer: Schema = (await client.get("/openapi.json")).json()
            return answer

    return asyncio.run(document())


def _settings_table(wanted: Callable[[str], bool]) -> str:
    schema = Settings.model_json_schema()
    rows = []
    for name, field in schema["properties"].items():
        if wanted(name):
            flag = f"`--{name.replace('_', '-')}`<br>`PUSHFORWARD_{name.upper()}`"
            unit = _UNITS.get(name.rsplit("_", 1)[-1], "")
            rows.append((flag, _kind(field), _default(field, unit), unit, _text(field)))
    return _table(("option and environment variable", "takes", "default", "unit", "meaning"), rows)


def _object_tables(
    schema: Schema, definitions: Mapping[str, Schema], *, level: int, defaults: bool = True
) -> Iterator[str]:
    """The table of an object's keys, then those of the objects that it refers to, each once."""
    waiting: list[tuple[str, Schema]] = [("", schema)]
    seen: set[str] = set()
    for name, current in waiting:  # which grows meanwhile
        if name:
            yield f"{'#' * level} {name} {{ #{name.lower()} }}"
        yield _text(current)
        required = current.get("required", ())
        rows = []
        for key, field in current["properties"].items():
            default = ["required" if key in required else _default(field)] if defaults else []
            rows.append(
                [f"`{key}`", _kind(field), *default, _text(field) or _text(_refers_to(field, definitions))]
            )
        yield _table(["key", "value", *(["default"] if defaults else []), "meaning"], rows)
        for reference in _references(current["properties"]):
            if reference not in seen and "properties" in definitions[reference]:
                seen.add(reference)
                waiting.append((reference, definitions[reference]))


def _references(schema: Schema) -> list[str]:
    """The names of the objects that a part of a schema refers to, in order."""
    return re.findall(r'"\$ref": "[^"]*/(\w+)"', json.dumps(schema))


def _refers_to(field: Schema, definitions: Mapping[str, Schema]) -> Schema:
    """The only object that a field refers to, or an empty schema."""
    references = _references(field)
    return definitions[references[0]] if len(references) == 1 else {}


def _kind(field: Schema) -> str:
    """Describe in words the values that a field of a JSON schema takes."""
    if "$ref" in field:
        name = field["$ref"].rsplit("/", 1)[1]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in field:
        return " or ".join(dict.fromkeys(_kind(choice) for choice in field["anyOf"]))
    if "const" in field:
        return f"`{json.dumps(field['const'])}`"
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    if field.get("type") == "array":
        if "prefixItems" in field:
            return f"[{', '.join(_kind(item) for item in field['prefixItems'])}]"
        return f"list of {_kind(field['items'])}" if field.get("items") else "list"
    if field.get("type") == "object" and isinstance(field.get("additionalProperties"), dict):
        return f"object of {_kind(field['additionalProperties'])}"
    bounds = (f"{sign} {_number(field[key])}" for key, sign in _BOUNDS.items() if key in field)
    return " ".join([field.get("type", "any"), *bounds])


def _number(value: float) -> str:
    power = int(value).bit_length() - 1
    return f"2^{power}" if power > 16 and value == 2**power else f"{value:g}"


def _default(field: Schema, unit: str = "") -> str:
    value = field.get("default")
    if value is None:
        return "none"
    if isinstance(value, dict):
        return "its defaults"
    if value in ("", []):
        return "empty"
    text = value if isinstance(value, str) else json.dumps(value)
    return f"`{text}`" + (f" ({value // 2**20} MiB)" if unit == "bytes" and value >= 2**20 else "")


def _text(described: Schema) -> str:
    return " ".join(described.get("description", "").split())


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def _family(kind: type[ServiceError], depth: int = 0) -> Iterator[tuple[type[ServiceError], int]]:
    yield kind, depth
    for child in kind.__subclasses__():
        yield from _family(child, depth + 1)


def _nearest(kind: type[ServiceError], table: Mapping[type[ServiceError], Any]) -> Any:
    return next(table[ancestor] for ancestor in kind.__mro__ if ancestor in table)
