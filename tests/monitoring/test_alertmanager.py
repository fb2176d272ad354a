"""Alertmanager's own tool reads the example of its configuration, and sends each alert where it belongs."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.monitoring.sources import ALERTS, MONITORING, Alert
from tests.ports import free_port
from tests.waiting import wait_until

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
        matcher, *_ = matchers
        pattern = re.fullmatch(r'alertname =~? "?([^"]+)"?', matcher)
        assert pattern is not None
        return {alert.name for alert in ALERTS if re.fullmatch(pattern[1], alert.name)}

    rules: list[dict[str, Any]] = yaml.safe_load(CONFIGURATION.read_text())["inhibit_rules"]
    for rule in rules:
        source, target = matched(rule["source_matchers"]), matched(rule["target_matchers"])
        assert source
        assert target
        assert not source & target


@pytest.fixture
def alertmanager(tmp_path: Path) -> Iterator[httpx.Client]:
    """A running Alertmanager, asked by its HTTP API; it has no peers."""
    listening = f"127.0.0.1:{free_port()}"
    command = ["prometheus-alertmanager", f"--config.file={CONFIGURATION}", f"--storage.path={tmp_path}"]
    command += [f"--web.listen-address={listening}", "--cluster.listen-address="]
    client = httpx.Client(base_url=f"http://{listening}", timeout=30)
    with client, (tmp_path / "log").open("w") as log, subprocess.Popen(command, stderr=log) as process:
        try:
            wait_until(lambda: _answers(client))
            yield client
        finally:
            process.terminate()


def _answers(client: httpx.Client) -> bool:
    try:
        return client.get("/-/ready").is_success
    except httpx.TransportError:
        return False


@pytest.mark.skipif(shutil.which("prometheus-alertmanager") is None, reason="only amtool is installed")
@pytest.mark.parametrize("known", [True, False])
def test_of_a_service_that_is_gone_one_page_is_sent(alertmanager: httpx.Client, known: bool) -> None:
    """Prometheus knows of replicas that do not answer, or of none; other deployments keep their pages."""
    here, there = ({"namespace": name, "job": "pushforward"} for name in ("here", "there"))
    pages = [{"alertname": "PushforwardNoReadyReplica"} | (here if known else {})]
    pages += [{"alertname": "PushforwardErrorBudgetBurnsFast"} | labels for labels in (here, there)]
    pages += [{"alertname": "PushforwardLatencyBudgetBurnsFast", "operation": "score"} | here]
    posted = [{"labels": labels | {"severity": "page"}} for labels in pages]
    alertmanager.post("/api/v2/alerts", json=posted).raise_for_status()
    wait_until(lambda: len(alertmanager.get("/api/v2/alerts").json()) == len(pages))
    sent = alertmanager.get("/api/v2/alerts", params={"inhibited": "false"}).json()
    names = sorted((alert["labels"].get("namespace", ""), alert["labels"]["alertname"]) for alert in sent)
    other = [("there", "PushforwardErrorBudgetBurnsFast")] if known else []
    assert names == [("here" if known else "", "PushforwardNoReadyReplica"), *other]
