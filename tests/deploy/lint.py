"""Mistakes that the schemas of Kubernetes accept, but a cluster refuses, or runs and must not.

Each rule takes all objects that are applied together and yields its findings, one sentence each. Those about
this service rather than Kubernetes are in `serving_rules`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from tests.deploy.rendering import Object, containers, name_of, of_kind, pod_templates

Rule = Callable[[list[Object]], Iterator[str]]

_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
_PORT_NAME = re.compile(r"(?=.*[a-z])[a-z0-9]([-a-z0-9]{0,13}[a-z0-9])?")
_QUANTITY = re.compile(r"(\d+(?:\.\d+)?)(m|k|M|G|T|Ki|Mi|Gi|Ti|)")
_FACTORS = {"m": 1e-3, "": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12} | {
    unit: 2.0 ** (10 * power) for power, unit in enumerate(("Ki", "Mi", "Gi", "Ti"), start=1)
}
_RESTRICTED_VOLUMES = {
    "configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected",
    "secret",
}  # fmt: skip


def amount(quantity: object) -> float | None:
    """The number that a Kubernetes quantity means, or None if it is none."""
    found = _QUANTITY.fullmatch(str(quantity))
    return float(found[1]) * _FACTORS[found[2]] if found else None


def _pods(objects: list[Object]) -> Iterator[tuple[str, Object]]:
    for name, template in pod_templates(objects):
        yield name, template["spec"]


def _containers(objects: list[Object]) -> Iterator[tuple[str, Object, Object]]:
    for name, pod in _pods(objects):
        for container in containers(pod):
            yield f"{name}, container {container['name']}", pod, container


def _selects(selector: Object, objects: list[Object]) -> bool:
    """Return True if some pods carry every label."""
    templates = (template for _, template in pod_templates(objects))
    return any(selector.items() <= template["metadata"]["labels"].items() for template in templates)


def names_are_dns_names(objects: list[Object]) -> Iterator[str]:
    for item in objects:
        if not _NAME.fullmatch(item["metadata"]["name"]):
            yield f"{name_of(item)}: the name is no DNS-1123 name"


def names_are_unique_and_in_one_namespace(objects: list[Object]) -> Iterator[str]:
    seen = set()
    for item in objects:
        if name_of(item) in seen:
            yield f"{name_of(item)}: is there twice"
        seen.add(name_of(item))
        if item["kind"] != "Namespace" and item["metadata"].get("namespace") != "pushforward":
            yield f"{name_of(item)}: is not in the namespace pushforward"


def quantities_parse_and_fit(objects: list[Object]) -> Iterator[str]:
    for name, _, container in _containers(objects):
        requests, limits = (container["resources"].get(key, {}) for key in ("requests", "limits"))
        for resource, quantity in [*requests.items(), *limits.items()]:
            if amount(quantity) is None:
                yield f"{name}: {quantity!r} is no quantity of {resource}"
        for resource in requests.keys() & limits.keys():
            if (amount(requests[resource]) or 0) > (amount(limits[resource]) or 0):
                yield f"{name}: requests more {resource} than its limit"
        for resource in ("cpu", "memory"):
            if resource not in requests:
                yield f"{name}: requests no {resource}"
        if "memory" not in limits:
            yield f"{name}: has no limit of memory"
        for resource in {key for key in (*requests, *limits) if "/" in key}:
            if requests.get(resource) != limits.get(resource):
                yield f"{name}: requests {resource} and its limit differ"


def scratch_fits_the_ephemeral_storage(objects: list[Object]) -> Iterator[str]:
    for name, pod in _pods(objects):
        allowed = sum(
            amount(container["resources"].get("limits", {}).get("ephemeral-storage", "0")) or 0
            for container in containers(pod)
            if container in pod["containers"] or container.get("restartPolicy") == "Always"
        )
        sizes = [volume["emptyDir"].get("sizeLimit") for volume in pod["volumes"] if "emptyDir" in volume]
        if None in sizes:
            yield f"{name}: an emptyDir has no sizeLimit"
        elif sum(amount(size) or 0 for size in sizes) > allowed:
            yield f"{name}: its emptyDirs may hold more than its limit of ephemeral-storage"


def ports_have_names_that_probes_and_services_use(objects: list[Object]) -> Iterator[str]:
    for name, _, container in _containers(objects):
        ports = container.get("ports", [])
        for port in ports:
            if not _PORT_NAME.fullmatch(port["name"]):
                yield f"{name}: the port name {port['name']!r} is none"
            if not 1 <= port["containerPort"] <= 65_535:
                yield f"{name}: there is no port {port['containerPort']}"
        known = {port["name"] for port in ports} | {port["containerPort"] for port in ports}
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            asked = container.get(probe, {}).get("httpGet", {}).get("port")
            if asked is not None and asked not in known:
                yield f"{name}: its {probe} asks the port {asked}, which it does not have"
    offered = {
        port["name"] for _, _, container in _containers(objects) for port in container.get("ports", [])
    }
    wanted = [
        (service, port["targetPort"])
        for service in of_kind(objects, "Service")
        for port in service["spec"]["ports"]
    ] + [
        (policy, port["port"])
        for policy in of_kind(objects, "NetworkPolicy")
        for rule in policy["spec"].get("ingress", [])
        for port in rule.get("ports", [])
    ]
    for item, target in wanted:
        if target not in offered:
            yield f"{name_of(item)}: no container has the port {target}"


def selectors_match_pods(objects: list[Object]) -> Iterator[str]:
    for deployment in of_kind(objects, "Deployment"):
        labels = deployment["spec"]["template"]["metadata"]["labels"]
        if not deployment["spec"]["selector"]["matchLabels"].items() <= labels.items():
            yield f"{name_of(deployment)}: its selector does not match its own pods"
    for name, template in pod_templates(objects):
        for spread in template["spec"].get("topologySpreadConstraints", []):
            if not spread["labelSelector"]["matchLabels"].items() <= template["metadata"]["labels"].items():
                yield f"{name}: spreads pods that are not its own"
    for service in of_kind(objects, "Service"):
        if not _selects(service["spec"]["selector"], objects):
            yield f"{name_of(service)}: selects no pod"
    for item in of_kind(objects, "PodDisruptionBudget", "NetworkPolicy"):
        key = "selector" if item["kind"] == "PodDisruptionBudget" else "podSelector"
        if not _selects(item["spec"][key].get("matchLabels", {}), objects):
            yield f"{name_of(item)}: selects no pod"
    services = [service["metadata"].get("labels", {}) for service in of_kind(objects, "Service")]
    for monitor in of_kind(objects, "ServiceMonitor"):
        wanted = monitor["spec"]["selector"]["matchLabels"]
        if sum(wanted.items() <= labels.items() for labels in services) != 1:
            yield f"{name_of(monitor)}: does not select exactly one Service"


def references_resolve(objects: list[Object]) -> Iterator[str]:
    known = {(item["kind"], item["metadata"]["name"]) for item in objects}

    def missing(name: str, kind: str, target: str) -> Iterator[str]:
        if (kind, target) not in known:
            yield f"{name}: there is no {kind} {target}"

    for name, pod in _pods(objects):
        yield from missing(name, "ServiceAccount", pod["serviceAccountName"])
        for volume in pod["volumes"]:
            if "configMap" in volume:
                yield from missing(name, "ConfigMap", volume["configMap"]["name"])
            if "secret" in volume:
                yield from missing(name, "Secret", volume["secret"]["secretName"])
            if "persistentVolumeClaim" in volume:
                yield from missing(
                    name, "PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"]
                )
    for name, pod, container in _containers(objects):
        for source in container.get("envFrom", []):
            yield from missing(name, "ConfigMap", source["configMapRef"]["name"])
        mounts = {mount["name"] for mount in container.get("volumeMounts", [])}
        for volume in mounts - {volume["name"] for volume in pod["volumes"]}:
            yield f"{name}: mounts the volume {volume}, which the pod does not have"
    for scaler in of_kind(objects, "HorizontalPodAutoscaler", "ScaledObject"):
        target = scaler["spec"]["scaleTargetRef"]
        yield from missing(name_of(scaler), target.get("kind", "Deployment"), target["name"])


def words_are_those_kubernetes_knows(objects: list[Object]) -> Iterator[str]:
    for name, _, container in _containers(objects):
        policy = container.get("imagePullPolicy")
        if policy not in ("Always", "IfNotPresent", "Never"):
            yield f"{name}: there is no imagePullPolicy {policy}"
        for hook, handler in container.get("lifecycle", {}).items():
            if hook in ("preStop", "postStart") and len(handler) != 1:
                yield f"{name}: its {hook} has {len(handler)} handlers, and must have one"
        if container["image"].rpartition(":")[2] in ("latest", container["image"]):
            yield f"{name}: the image {container['image']} has no tag or digest that stays what it is"


def pods_are_restricted(objects: list[Object]) -> Iterator[str]:
    """The Pod Security Standard `restricted`, and beyond it a read-only root and no token."""
    for name, pod in _pods(objects):
        security = pod["securityContext"]
        if any(pod.get(key) for key in ("hostNetwork", "hostPID", "hostIPC")):
            yield f"{name}: shares a namespace of its node"
        if security.get("runAsNonRoot") is not True or security.get("runAsUser", 0) < 10_000:
            yield f"{name}: may run as root, or as a user that the node may have too"
        if security.get("seccompProfile", {}).get("type") not in ("RuntimeDefault", "Localhost"):
            yield f"{name}: has no seccomp profile that Kubernetes knows"
        if pod.get("automountServiceAccountToken") is not False or pod.get("enableServiceLinks") is not False:
            yield f"{name}: is given a token or the addresses of services"
        for volume in pod["volumes"]:
            if not volume.keys() - {"name"} <= _RESTRICTED_VOLUMES:
                yield f"{name}: the volume {volume['name']} is of a kind that `restricted` refuses"
    for name, _, container in _containers(objects):
        security = container.get("securityContext", {})
        if security.get("allowPrivilegeEscalation") is not False or security.get("privileged"):
            yield f"{name}: may gain privileges"
        if security.get("capabilities") != {"drop": ["ALL"]}:
            yield f"{name}: keeps capabilities"
        if security.get("readOnlyRootFilesystem") is not True:
            yield f"{name}: may write to its root"
        if any("hostPort" in port for port in container.get("ports", [])):
            yield f"{name}: takes a port of its node"
        if {"runAsUser", "runAsNonRoot", "seccompProfile"} & security.keys():
            yield f"{name}: overrides the pod's security context"


RULES: tuple[Rule, ...] = (
    names_are_dns_names,
    names_are_unique_and_in_one_namespace,
    quantities_parse_and_fit,
    scratch_fits_the_ephemeral_storage,
    ports_have_names_that_probes_and_services_use,
    selectors_match_pods,
    references_resolve,
    words_are_those_kubernetes_knows,
    pods_are_restricted,
)
