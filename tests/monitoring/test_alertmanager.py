"""Alertmanager's own tool reads the example of its configuration, and sends each alert where it belongs."""

import re
import shutil
import subprocess
from typing import Any

import pytest
import yaml

from tests.monitoring.sources import ALERTS, MONITORING, Alert

CONFIGURATION = MONITORING / "alertmanager.yaml"
RECEIVERS = {"page": "pager", "ticket": "tickets"}
pytestmark = [
    pytest.mark.monitoring,
    pytest.mark.skipif(
        shutil.which("amtool") is None,
        reason="no amtool here; Debian's package prometheus-alertmanager has it",
    ),
]


def receiver_of(**labels: str) -> str:
    """Return the receiver of an alert with these labels."""
    command = ["amtool", "config", "routes", "test", f"--config.file={CONFIGURATION}"]
    done = subprocess.run(
        [*command, *(f"{name}={value}" for name, value in labels.items())],
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.strip()


def test_amtool_finds_no_fault_in_the_configuration() -> None:
    subprocess.run(["amtool", "check-config", CONFIGURATION], check=True)


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)
def test_a_page_goes_to_the_pager_and_a_ticket_to_the_tickets(alert: Alert) -> None:
    labels = {"alertname": alert.name, "severity": alert.severity, "namespace": "here", "job": "pushforward"}
    assert receiver_of(**labels) == RECEIVERS[alert.severity]


def test_the_alerts_of_others_wake_nobody_through_it() -> None:
    assert receiver_of(alertname="SomethingElse", severity="page") == "tickets"


def test_only_alerts_that_there_are_silence_others_and_none_silences_itself() -> None:
    def matched(matchers: list[str]) -> set[str]:
        (matcher,) = matchers
        pattern = re.fullmatch(r'alertname =~? "?([^"]+)"?', matcher)
        assert pattern is not None
        return {alert.name for alert in ALERTS if re.fullmatch(pattern[1], alert.name)}

    rules: list[dict[str, Any]] = yaml.safe_load(CONFIGURATION.read_text())["inhibit_rules"]
    for rule in rules:
        source, target = matched(rule["source_matchers"]), matched(rule["target_matchers"])
        assert source
        assert target
        assert not source & target
