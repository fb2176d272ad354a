"""The rule files, their tests and the dashboard, as the tests read them."""

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from tests.conftest import REPOSITORY

MONITORING = REPOSITORY / "deploy/monitoring"
RULE_FILES = (MONITORING / "recording-rules.yaml", MONITORING / "alert-rules.yaml")
ALERT_TESTS = tuple(sorted(Path(__file__).parent.glob("alerts*.yaml")))
DASHBOARD: dict[str, Any] = json.loads((MONITORING / "dashboard.json").read_text())

_SELECTOR = re.compile(r"\b(?:up|\w*:?pushforward(?:_\w+)?(?::\w+)*)\b(?:\{[^}]*\})?")
_INLINE_QUERY = re.compile(r"`([^`\n]*\brate\([^`\n]+)`")


class Alert(NamedTuple):
    """One alert of the rule files."""

    name: str
    expression: str
    severity: str
    annotations: dict[str, str]


def _rules() -> list[dict[str, Any]]:
    documents = [yaml.safe_load(path.read_text()) for path in RULE_FILES]
    return [rule for document in documents for group in document["groups"] for rule in group["rules"]]


RECORDED: dict[str, str] = {rule["record"]: rule["expr"] for rule in _rules() if "record" in rule}
ALERTS = [
    Alert(rule["alert"], rule["expr"], rule["labels"]["severity"], rule["annotations"])
    for rule in _rules()
    if "alert" in rule
]


def dashboard_expressions() -> dict[str, str]:
    """Every query of the dashboard, by panel and letter, with each variable at `All`."""
    variables = {"$__rate_interval": "1m", **{f"${name}": ".*" for name in ("namespace", "job", "model")}}
    found = {}
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", ()):
            expression = target["expr"]
            for variable, value in variables.items():
                expression = expression.replace(variable, value)
            found[f"{panel['title']} {target['refId']}"] = expression
    return found


def documented_expressions() -> list[str]:
    """Return every query that the text of the documentation names."""
    pages = sorted((REPOSITORY / "docs").rglob("*.md"))
    return [found for page in pages for found in _INLINE_QUERY.findall(page.read_text())]


def expressions() -> dict[str, str]:
    """Return every expression of the rules and the dashboard by its place."""
    return {**RECORDED, **{alert.name: alert.expression for alert in ALERTS}, **dashboard_expressions()}


def selectors(expression: str) -> set[str]:
    """The series an expression reads: names of metrics, with their matchers if they have any."""
    return {found[0] for found in _SELECTOR.finditer(expression)}
