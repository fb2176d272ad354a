"""The objects that the overlays render to, as kubectl would apply them."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from tests.conftest import REPOSITORY

Object = dict[str, Any]
"""One Kubernetes object, or a part of one."""

DEPLOY = REPOSITORY / "deploy"
OVERLAYS = tuple(sorted(path.name for path in (DEPLOY / "overlays").iterdir()))


def rendered(folder: Path) -> list[Object]:
    """The objects of a kustomization; fails with kubectl's message if it cannot be built."""
    built = subprocess.run(["kubectl", "kustomize", str(folder)], capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    return list(yaml.safe_load_all(built.stdout))


def composed(folder: Path, overlay: str, *components: str) -> list[Object]:
    """The objects of an overlay with further components, by a kustomization written into an empty folder."""
    # kustomize takes relative paths only
    up = Path(*[".."] * len(folder.resolve().parts[1:]), *DEPLOY.resolve().parts[1:])
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": "pushforward",
        "resources": [str(up / "overlays" / overlay)],
        "components": [str(up / "components" / component) for component in components],
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    return rendered(folder)


def of_kind(objects: list[Object], *kinds: str) -> list[Object]:
    """The objects of some kinds, in order."""
    return [item for item in objects if item["kind"] in kinds]


def the(objects: list[Object], kind: str, name: str = "pushforward") -> Object:
    """The one object of a kind and name."""
    (found,) = [item for item in of_kind(objects, kind) if item["metadata"]["name"] == name]
    return found


def name_of(item: Object) -> str:
    return f"{item['kind']} {item['metadata']['name']}"


def pod_of(workload: Object) -> Object:
    """The spec of the pods it makes."""
    pod: Object = workload["spec"]["template"]["spec"]
    return pod


def pod_templates(objects: list[Object]) -> Iterator[tuple[str, Object]]:
    """Yield each pod template and the name of its object, also of those that operators make pods from."""
    for item in objects:
        if item["kind"] in ("Deployment", "Job"):
            yield name_of(item), item["spec"]["template"]
        elif item["kind"] == "RayJob":
            cluster = item["spec"]["rayClusterSpec"]
            yield f"{name_of(item)}, head", cluster["headGroupSpec"]["template"]
            for group in cluster["workerGroupSpecs"]:
                yield f"{name_of(item)}, workers {group['groupName']}", group["template"]
        elif item["kind"] == "InferenceService":
            yield name_of(item), _inference_pod(item, objects)


def _inference_pod(service: Object, objects: list[Object]) -> Object:
    """Return the pod template that KServe merges from an InferenceService and its runtime."""
    predictor = service["spec"]["predictor"]
    runtimes = {item["metadata"]["name"]: item["spec"] for item in of_kind(objects, "ServingRuntime")}
    runtime = runtimes.get(predictor["model"]["runtime"], {"containers": []})
    spec = {key: value for key, value in predictor.items() if key not in ("labels", "model")}
    parts = {key: runtime.get(key, []) for key in ("containers", "volumes")}
    return {"metadata": {"labels": predictor.get("labels", {})}, "spec": spec | parts}


def containers(pod: Object) -> Iterator[Object]:
    """Every container of a pod, init containers first."""
    yield from pod.get("initContainers", [])
    yield from pod["containers"]


def variables(container: Object) -> dict[str, str]:
    """Return the variables that a container sets to a value."""
    return {entry["name"]: entry["value"] for entry in container.get("env", []) if "value" in entry}
