"""Rules and dashboard use metrics that exist; every alert has a runbook and tests of both kinds."""

import re
from collections import defaultdict

import pytest
import yaml

from service.observe.metrics import DURATION_BUCKETS, P_VALUE_BUCKETS, Metrics
from tests.conftest import REPOSITORY
from tests.monitoring.sources import (
    ALERT_TESTS,
    ALERTS,
    DASHBOARD,
    MONITORING,
    RECORDED,
    RULE_FILES,
    Alert,
    dashboard_expressions,
    expressions,
    selectors,
)

RUNBOOKS = (REPOSITORY / "docs/runbooks.md").read_text()


def exposed() -> set[str]:
    """The names of all series of the service, whether it has counted any yet or not."""
    suffixes = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "gauge": ("",)}
    families = Metrics().registry.collect()
    return {family.name + suffix for family in families for suffix in suffixes[family.type]}


def test_the_operators_rules_are_those_of_the_rule_files() -> None:
    written = yaml.safe_load_all((MONITORING / "prometheus-rule.yaml").read_text())
    rules = [yaml.safe_load(path.read_text()) for path in RULE_FILES]
    assert [each["spec"] for each in written] == rules, "run make deploy/monitoring/prometheus-rule.yaml"


def test_every_expression_reads_metrics_that_the_service_exposes_or_rules_record() -> None:
    there = exposed() | RECORDED.keys() | {"up"}
    for place, expression in expressions().items():
        names = {selector.split("{")[0] for selector in selectors(expression)}
        assert names <= there, place
        assert names or "ALERTS" in expression, place


def test_every_rule_is_used_by_an_alert_or_the_dashboard_or_to_scale_by() -> None:
    used = "".join([*(alert.expression for alert in ALERTS), *dashboard_expressions().values()])
    assert {name for name in RECORDED if name not in used} == set()


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)
def test_every_alert_says_how_urgent_it_is_and_what_to_do(alert: Alert) -> None:
    assert alert.severity in ("page", "ticket")
    assert alert.annotations.keys() == {"summary", "description", "runbook_url"}
    assert alert.annotations["runbook_url"] == f"docs/runbooks.md#{alert.name.lower()}"
    entry = RUNBOOKS.split(f"## {alert.name}\n")[1].split("\n## ")[0]
    assert f"*{alert.severity.title()}. " in entry


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)
def test_the_dashboard_shows_what_every_alert_reads(alert: Alert) -> None:
    shown = set().union(*(_measured(text) for text in dashboard_expressions().values()))
    assert _measured(alert.expression) <= shown


def _measured(expression: str) -> set[str]:
    """Return the names of the service's own series that an expression reads, by rules or by itself."""
    names = {selector.split("{")[0] for selector in selectors(expression)}
    return set().union(*(_measured(RECORDED[name]) if name in RECORDED else {name} for name in names))


def test_every_runbook_is_of_an_alert() -> None:
    assert re.findall(r"(?m)^## (\w+)$", RUNBOOKS) == [alert.name for alert in ALERTS]


def test_every_alert_is_tested_to_fire_and_to_stay_silent() -> None:
    expected: defaultdict[str, set[bool]] = defaultdict(set)
    for path in ALERT_TESTS:
        for test in yaml.safe_load(path.read_text())["tests"]:
            name, verb, *_ = test["name"].split()
            (query,) = test["promql_expr_test"]
            assert f'alertname="{name}"' in query["expr"]
            fires = query["exp_samples"][0]["value"] > 0
            assert verb == ("fires" if fires else "is")
            expected[name].add(fires)
    assert expected == {alert.name: {True, False} for alert in ALERTS}


def test_the_bounds_in_expressions_are_those_of_buckets() -> None:
    bounds = {bound for text in expressions().values() for bound in re.findall(r'le="([\d.]+)"', text)}
    assert {float(bound) for bound in bounds} <= {*DURATION_BUCKETS, *P_VALUE_BUCKETS}


def test_panels_have_their_own_place_and_say_what_they_show() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken
        assert max(x for x, _ in cells) < 24
        taken |= cells
        assert panel["type"] == "row" or (panel["description"] and panel["fieldConfig"]["defaults"]["unit"])
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
