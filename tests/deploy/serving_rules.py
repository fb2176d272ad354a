"""The needs of this service's pods beyond those of Kubernetes: a drain, probes, ports, replicas."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from service.settings import Settings
from tests.deploy.lint import Rule
from tests.deploy.rendering import Object, name_of, of_kind, pod_templates, variables

SPARE_SECONDS = 5
"""The part of a grace period that must remain beyond everything that is waited for."""
START_BUDGET_SECONDS = 20
"""The least that a startup probe must allow beside trials: ten times what loading three models took."""
HANGING_VERSIONS = 4
"""The versions that may hang at a start, each in its trial, before the startup probe gives up."""
TRIAL_SECONDS: float = Settings.model_fields["trial_seconds"].default
PORTS = {"http": "", "metrics": "METRICS_", "grpc": "GRPC_"}
"""The names of a server's ports, and the prefix of PORT in the name of the setting."""


def servers_drain_within_their_grace(objects: list[Object]) -> Iterator[str]:
    for name, pod, server, settings in _servers(objects):
        deadline, delay, drain = (
            float(settings[f"PUSHFORWARD_{key}_SECONDS"]) for key in ("DEADLINE", "DRAIN_DELAY", "DRAIN")
        )
        before = server.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        if pod.get("terminationGracePeriodSeconds", 30) < before + delay + drain + SPARE_SECONDS:
            yield f"{name}: is killed before preStop, delay and drain have ended"
        if drain < deadline:
            yield f"{name}: a request may take {deadline} s, the drain waits {drain} s"
        if before <= 0 or delay <= 0:
            yield f"{name}: stops listening before the proxies know"


def servers_have_probes_of_their_own_and_time_to_start(objects: list[Object]) -> Iterator[str]:
    for name, _, server, settings in _servers(objects):
        paths = {
            probe: server.get(probe, {}).get("httpGet", {}).get("path")
            for probe in ("startupProbe", "readinessProbe", "livenessProbe")
        }
        if list(paths.values()) != ["/readyz", "/readyz", "/healthz"]:
            yield f"{name}: its probes are {paths}"
        startup = server.get("startupProbe", {})
        trial_seconds = float(settings.get("PUSHFORWARD_TRIAL_SECONDS", TRIAL_SECONDS))
        needed = START_BUDGET_SECONDS + HANGING_VERSIONS * trial_seconds
        if startup.get("periodSeconds", 10) * startup.get("failureThreshold", 3) < needed:
            yield f"{name}: has less than {needed:g} s to start"


def servers_listen_where_the_ports_are(objects: list[Object]) -> Iterator[str]:
    for name, _, server, settings in _servers(objects):
        ports = {port["name"]: str(port["containerPort"]) for port in server["ports"]}
        variables = {port: f"PUSHFORWARD_{prefix}PORT" for port, prefix in PORTS.items()}
        said = {port: settings[key] for port, key in variables.items() if key in settings}
        if ports != said:
            yield f"{name}: has the ports {ports}, its settings say {said}"
        if settings["PUSHFORWARD_PROCESSES"] != "1":
            yield f"{name}: runs more than one process in a pod"


def servers_keep_metrics_off_the_port_of_clients(objects: list[Object]) -> Iterator[str]:
    for name, _, _, settings in _servers(objects):
        if settings.get("PUSHFORWARD_PUBLIC_METRICS") != "false":
            yield f"{name}: answers /metrics to every client"


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


def _servers(objects: list[Object]) -> Iterator[tuple[str, Object, Object, dict[str, str]]]:
    """Yield the name, pod, container and settings of each server whose settings exist."""
    maps = {item["metadata"]["name"]: item["data"] for item in of_kind(objects, "ConfigMap")}
    for name, template in pod_templates(of_kind(objects, "Deployment", "InferenceService", "ServingRuntime")):
        pod = template["spec"]
        for server in pod["containers"]:
            names = [source["configMapRef"]["name"] for source in server.get("envFrom", [])]
            if maps.keys() >= set(names):  # else references_resolve says so
                settings = {key: value for source in names for key, value in maps[source].items()}
                yield name, pod, server, settings | variables(server)


RULES: tuple[Rule, ...] = (
    servers_drain_within_their_grace,
    servers_have_probes_of_their_own_and_time_to_start,
    servers_listen_where_the_ports_are,
    servers_keep_metrics_off_the_port_of_clients,
    scalers_own_the_replicas,
    disruptions_leave_a_replica,
)
