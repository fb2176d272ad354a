"""A real Prometheus, which has scraped the real service, runs every rule and every query of the dashboard."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests import toy
from tests.monitoring.sources import (
    ALERT_TESTS,
    DASHBOARD,
    RECORDED,
    RULE_FILES,
    dashboard_expressions,
    documented_expressions,
    expressions,
    selectors,
)
from tests.ports import free_port
from tests.serving import RunningService, running_service
from tests.toy import publish_toy
from tests.waiting import wait_until

pytestmark = [
    pytest.mark.monitoring,
    pytest.mark.timeout(300),
    pytest.mark.skipif(
        shutil.which("promtool") is None or shutil.which("prometheus") is None,
        reason="no promtool and prometheus here; Debian's package prometheus has both",
    ),
]
_SCRAPE_SECONDS = 1


class Prometheus:
    """A running Prometheus, asked by its HTTP API."""

    def __init__(self, port: int) -> None:
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30)

    def is_ready(self) -> bool:
        """Return True if it answers queries yet: it listens before it does."""
        try:
            return self.client.get("/-/ready").is_success
        except httpx.TransportError:
            return False

    def get(self, path: str, **parameters: str) -> Any:
        """The data of an answer that succeeded."""
        answer = self.client.get(f"/api/v1{path}", params=parameters).json()
        assert answer["status"] == "success", answer
        return answer["data"]

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The series of an expression at this time."""
        found: list[dict[str, Any]] = self.get("/query", query=expression)["result"]
        return found


@pytest.fixture(scope="module")
def scraped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    models = tmp_path_factory.mktemp("models")
    publish_toy(models)
    with running_service(models, "--metrics-port", "0") as service:
        yield service


@pytest.fixture(scope="module")
def prometheus(scraped: RunningService, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """Prometheus, once it has all there is to scrape; nothing is scraped but the service, on loopback."""
    folder, port = tmp_path_factory.mktemp("prometheus"), free_port()
    target = re.sub(r"http://|/metrics", "", scraped.metrics_url)
    pod = {"targets": [target], "labels": {"namespace": "here"}}
    configuration = {
        "global": {"scrape_interval": f"{_SCRAPE_SECONDS}s", "evaluation_interval": f"{_SCRAPE_SECONDS}s"},
        "rule_files": [str(path) for path in RULE_FILES],
        "scrape_configs": [{"job_name": "pushforward", "static_configs": [pod]}],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(configuration))
    command = ["prometheus", "--config.file=prometheus.yml", f"--web.listen-address=127.0.0.1:{port}"]
    with (folder / "log").open("w") as log, subprocess.Popen(command, cwd=folder, stderr=log) as process:
        try:
            running = Prometheus(port)
            while not _has_all(running, process):  # bounded by the test's time limit
                use(scraped)
            yield running
            running.client.close()
        finally:
            process.terminate()


def use(service: RunningService) -> None:
    """Send some requests of every kind."""
    model = "/v1/models/toy-vae"
    assert service.client.post(f"{model}/sample", json={"count": 3}).status_code == 200
    assert service.client.post(f"{model}/score", json={"inputs": toy.items(8).tolist()}).status_code == 200


def _has_all(prometheus: Prometheus, process: subprocess.Popen[bytes]) -> bool:
    assert process.poll() is None, "prometheus ended"
    return prometheus.is_ready() and all(prometheus.query(name) for name in RECORDED)


def test_promtool_finds_no_fault_in_the_rules() -> None:
    subprocess.run(["promtool", "check", "rules", *RULE_FILES], check=True)


@pytest.mark.parametrize("path", ALERT_TESTS, ids=lambda path: path.stem)
def test_alerts_fire_and_stay_silent_when_they_should(path: Path) -> None:
    subprocess.run(["promtool", "test", "rules", path], check=True)


def test_every_rule_is_evaluated_without_an_error(prometheus: Prometheus) -> None:
    groups = prometheus.get("/rules")["groups"]
    rules = {rule["name"]: rule for group in groups for rule in group["rules"]}
    assert rules.keys() >= RECORDED.keys()
    assert {name: rule["lastError"] for name, rule in rules.items() if rule.get("lastError")} == {}
    assert {rule["health"] for rule in rules.values()} == {"ok"}


@pytest.mark.parametrize("place", sorted(expressions()))
def test_everything_that_an_expression_reads_is_there(prometheus: Prometheus, place: str) -> None:
    prometheus.query(expressions()[place])
    for selector in selectors(expressions()[place]):
        assert prometheus.query(selector), selector


@pytest.mark.parametrize("place", sorted(dashboard_expressions()))
def test_every_panel_shows_something(prometheus: Prometheus, place: str) -> None:
    assert prometheus.query(dashboard_expressions()[place])


@pytest.mark.parametrize("query", documented_expressions())
def test_every_query_of_the_documentation_answers_something(prometheus: Prometheus, query: str) -> None:
    assert prometheus.query(query)


def test_the_choices_of_the_dashboard_are_there(prometheus: Prometheus) -> None:
    for variable in DASHBOARD["templating"]["list"][1:]:
        query = re.sub(r"\$\w+", ".*", variable["query"]["query"])
        found = re.fullmatch(r"label_values\((.+), (\w+)\)", query)
        assert found is not None
        assert all(found[2] in series for series in prometheus.get("/series", **{"match[]": found[1]}))


def test_a_healthy_service_raises_no_alert(prometheus: Prometheus) -> None:
    assert prometheus.query('ALERTS{alertstate="firing"}') == []


def test_a_service_that_is_gone_is_noticed(prometheus: Prometheus, scraped: RunningService) -> None:
    """The last test of this file: it ends the service."""
    assert scraped.stop() == 0
    wanted = {"PushforwardTargetDown", "PushforwardNoReadyReplica"}
    wait_until(
        lambda: wanted <= {one["metric"]["alertname"] for one in prometheus.query("ALERTS")}, seconds=280
    )
