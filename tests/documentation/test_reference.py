"""The tables of the reference name all that the code has."""

import re
from typing import get_args

import pytest

from docs.hooks.reference import TABLES, with_tables
from service.api.v1.handler import OPERATIONS
from service.api.v1.score import Score, StatisticScore
from service.errors import ServiceError
from service.format.manifest import Manifest
from service.format.statistics import UNITS, Statistic
from service.settings import Settings
from tests.conftest import REPOSITORY
from tests.documentation.pages import PAGES, Page
from training.recipe import Recipe


def names(table: str) -> set[str]:
    """Return the names in backticks in the first cell of each row."""
    return {
        name
        for row in re.findall(r"^\| (.*?) \| ", table, re.MULTILINE)
        for name in re.findall("`([^`]+)`", row)
    }


def test_the_settings_have_every_option_and_its_variable() -> None:
    options = {f"--{name.replace('_', '-')}" for name in Settings.model_fields}
    variables = {f"PUSHFORWARD_{name.upper()}" for name in Settings.model_fields}
    assert names(TABLES["settings"]()) == options | variables
    assert "| s | Longest time for one request" in TABLES["settings"]()


def test_the_limits_have_every_option_that_is_a_most() -> None:
    assert {
        f"--max-{name[4:].replace('_', '-')}" for name in Settings.model_fields if name[:4] == "max_"
    } <= names(TABLES["limits"]())


def test_the_recipe_has_every_key_of_every_table() -> None:
    table = TABLES["recipe"]()
    for name, field in Recipe.model_fields.items():
        assert f"| `{name}` |" in table
        for part in (field.annotation, *getattr(field.annotation, "__args__", ())):
            for key in getattr(part, "model_fields", ()):
                assert f"| `{key}` |" in table
        assert f"`[{name}]`" in table or name in ("name", "title", "seed", "start")


def test_the_manifest_has_every_key_with_what_its_docstring_says() -> None:
    table = TABLES["manifest"]()
    assert set(Manifest.model_fields) <= names(table)
    assert "An .npz file of example inputs and their outputs" in table


def test_every_statistic_has_a_unit_a_field_of_a_score_words_on_the_page_and_an_explanation() -> None:
    assert UNITS.keys() == set(get_args(Statistic))
    assert UNITS.keys() <= Score.model_fields.keys() | StatisticScore.model_fields.keys()
    shown = (REPOSITORY / "service/page/static/score.js").read_text()
    explained = Page("docs/explanation/statistics.md").text
    assert [name for name in UNITS if f"{name}: " not in shown or f"`{name}`" not in explained] == []


def test_the_metrics_have_names_as_prometheus_has_them() -> None:
    found = names(TABLES["metrics"]())
    assert {"pushforward_http_requests_total", "pushforward_p_value_distance"} <= found
    assert all(name.startswith("pushforward_") for name in found)


def test_the_errors_have_the_code_of_every_class() -> None:
    table = TABLES["errors"]()

    def classes(kind: type[ServiceError]) -> list[type[ServiceError]]:
        return [kind, *(each for child in kind.__subclasses__() for each in classes(child))]

    for kind in classes(ServiceError):
        assert re.search(rf"`{kind.__name__}` \| `{kind.code}` \| \d\d\d \| [A-Z_]+ \| \S", table)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_an_operation_has_the_keys_of_its_request_and_of_its_answer(operation: str) -> None:
    table = TABLES["operation"](operation)
    assert "**Request**: `application/json`" in table
    assert {"model", "version"} <= names(table)


@pytest.mark.parametrize(
    "command", ["pushforward", "pushforward-serve", "pushforward-train", "pushforward-alias"]
)
def test_a_command_has_its_help(command: str) -> None:
    shown = TABLES["commands"](command)
    assert f"<!-- table: commands {command} -->" in Page("docs/reference/commands.md").text
    assert re.search(rf"[Uu]sage: {command}", shown)
    assert command != "pushforward-train" or "### `pushforward-train calibrate`" in shown
    assert command != "pushforward" or "### `pushforward verify`" in shown


def test_every_table_stands_on_a_page() -> None:
    text = "".join(page.text for page in PAGES if page.name.startswith("docs/reference/"))
    assert all(f"<!-- table: {name}" in text for name in TABLES)
    assert all(f"<!-- table: operation {name} -->" in text for name in OPERATIONS)
    with pytest.raises(KeyError, match="no-such-table"):
        with_tables("<!-- table: no-such-table -->")
