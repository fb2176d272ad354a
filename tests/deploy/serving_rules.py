"""What pods of this service need, beyond what Kubernetes asks: a drain, probes, ports, replicas."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from tests.deploy import lint
from tests.deploy.lint import Rule, name_of
from tests.deploy.rendering import Object, of_kind, pod_of

SPARE_SECONDS = 5
"""What a grace period must hold beyond all that is waited for."""
START_BUDGET_SECONDS = 20
"""Ten times what loading three models took; what a startup probe must at least allow."""


def findings(objects: list[Object]) -> list[str]:
    """All that is wrong with objects that are applied together, by every rule; empty if nothing is."""
    return [finding for rule in (*lint.RULES, *RULES) for finding in rule(objects)]


def servers_drain_within_their_grace(objects: list[Object]) -> Iterator[str]:
    for deployment, settings in _servers(objects):
        pod = pod_of(deployment)
        deadline, delay, drain = (
            float(settings[f"PUSHFORWARD_{key}_SECONDS"]) for key in ("DEADLINE", "DRAIN_DELAY", "DRAIN")
        )
        (server,) = pod["containers"]
        before = server.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        if pod["terminationGracePeriodSeconds"] < before + delay + drain + SPARE_SECONDS:
            yield f"{name_of(deployment)}: is killed before preStop, delay and drain have ended"
        if drain < deadline:
            yield f"{name_of(deployment)}: a request may take {deadline} s, the drain waits {drain} s"
        if before <= 0 or delay <= 0:
            yield f"{name_of(deployment)}: stops listening before the proxies know"


def servers_have_probes_of_their_own_and_time_to_start(objects: list[Object]) -> Iterator[str]:
    for deployment, _ in _servers(objects):
        (server,) = pod_of(deployment)["containers"]
        paths = {
            probe: server.get(probe, {}).get("httpGet", {}).get("path")
            for probe in ("startupProbe", "readinessProbe", "livenessProbe")
        }
        if list(paths.values()) != ["/readyz", "/readyz", "/healthz"]:
            yield f"{name_of(deployment)}: its probes are {paths}"
        startup = server.get("startupProbe", {})
        if startup.get("periodSeconds", 10) * startup.get("failureThreshold", 3) < START_BUDGET_SECONDS:
            yield f"{name_of(deployment)}: has less than {START_BUDGET_SECONDS} s to start"


def servers_listen_where_the_ports_are(objects: list[Object]) -> Iterator[str]:
    for deployment, settings in _servers(objects):
        (server,) = pod_of(deployment)["containers"]
        ports = {port["name"]: str(port["containerPort"]) for port in server["ports"]}
        said = {"http": settings["PUSHFORWARD_PORT"], "metrics": settings["PUSHFORWARD_METRICS_PORT"]}
        if ports != said:
            yield f"{name_of(deployment)}: has the ports {ports}, its settings say {said}"
        if settings["PUSHFORWARD_PROCESSES"] != "1":
            yield f"{name_of(deployment)}: runs more than one process in a pod"


def scalers_own_the_replicas(objects: list[Object]) -> Iterator[str]:
    bounds: Iterable[tuple[Object, int, int]] = [
        (item, item["spec"].get("minReplicas", 1), item["spec"]["maxReplicas"])
        for item in of_kind(objects, "HorizontalPodAutoscaler")
    ] + [
        (item, item["spec"].get("minReplicaCount", 0), item["spec"].get("maxReplicaCount", 100))
        for item in of_kind(objects, "ScaledObject")
    ]
    for scaler, least, most in bounds:
        if least > most:
            yield f"{name_of(scaler)}: its least replicas are more than its most"
        if any("replicas" in item["spec"] for item in of_kind(objects, "Deployment")):
            yield f"{name_of(scaler)}: the Deployment sets replicas too"


def disruptions_leave_a_replica(objects: list[Object]) -> Iterator[str]:
    for budget in of_kind(objects, "PodDisruptionBudget"):
        for deployment in of_kind(objects, "Deployment"):
            if deployment["spec"].get("replicas", 2) <= budget["spec"]["maxUnavailable"]:
                yield f"{name_of(budget)}: allows that no replica is left"


def shards_are_completions(objects: list[Object]) -> Iterator[str]:
    for job in of_kind(objects, "Job"):
        shards = [
            entry["value"]
            for container in pod_of(job)["containers"]
            for entry in container.get("env", [])
            if entry["name"] == "SHARDS"
        ]
        if shards and shards != [str(job["spec"]["completions"])]:
            yield f"{name_of(job)}: has {job['spec']['completions']} completions for {shards[0]} shards"


def _servers(objects: list[Object]) -> Iterator[tuple[Object, dict[str, str]]]:
    """Each Deployment, and the settings its server is given; one whose settings are missing is left out."""
    maps = {item["metadata"]["name"]: item["data"] for item in of_kind(objects, "ConfigMap")}
    for deployment in of_kind(objects, "Deployment"):
        (server,) = pod_of(deployment)["containers"]
        names = [source["configMapRef"]["name"] for source in server["envFrom"]]
        if maps.keys() >= set(names):  # else references_resolve says so
            yield deployment, {key: value for name in names for key, value in maps[name].items()}


RULES: tuple[Rule, ...] = (
    servers_drain_within_their_grace,
    servers_have_probes_of_their_own_and_time_to_start,
    servers_listen_where_the_ports_are,
    scalers_own_the_replicas,
    disruptions_leave_a_replica,
    shards_are_completions,
)
