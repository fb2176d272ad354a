"""The lint finds nothing in what is shipped, and each mistake that a schema would let through."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.deploy.rendering import DEPLOY, OVERLAYS, Object, composed, pod_of, rendered, the
from tests.deploy.serving_rules import findings

pytestmark = pytest.mark.deploy

Mutant = Callable[[list[Object]], None]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_no_overlay_has_a_finding(overlay: str) -> None:
    assert findings(rendered(DEPLOY / "overlays" / overlay)) == []


@pytest.mark.parametrize(
    ("overlay", "components"),
    [
        ("cpu", ("pulled-models",)),
        ("gpu", ("autoscale-keda", "pulled-models")),
        ("cpu", ("autoscale-hpa", "pulled-models")),
    ],
)
def test_components_go_together(overlay: str, components: tuple[str, ...], tmp_path: Path) -> None:
    assert findings(composed(tmp_path, overlay, *components)) == []


def _pod(objects: list[Object]) -> Object:
    return pod_of(the(objects, "Deployment"))


def _server(objects: list[Object]) -> Object:
    (server,) = _pod(objects)["containers"]
    found: Object = server
    return found


def _cpu_of_1x(objects: list[Object]) -> None:
    _server(objects)["resources"]["requests"]["cpu"] = "1x"


def _port_name_of_twenty_letters(objects: list[Object]) -> None:
    _server(objects)["ports"][0]["name"] = "the-main-http-port-1"


def _port_70000(objects: list[Object]) -> None:
    _server(objects)["ports"][0]["containerPort"] = 70_000


def _selector_of_other_pods(objects: list[Object]) -> None:
    the(objects, "Deployment")["spec"]["selector"]["matchLabels"] = {"app": "other"}


def _probe_of_a_missing_port(objects: list[Object]) -> None:
    _server(objects)["readinessProbe"]["httpGet"]["port"] = "web"


def _mount_without_a_volume(objects: list[Object]) -> None:
    _server(objects)["volumeMounts"].append({"name": "cache", "mountPath": "/cache"})


def _pull_sometimes(objects: list[Object]) -> None:
    _server(objects)["imagePullPolicy"] = "Sometimes"


def _seccomp_foo(objects: list[Object]) -> None:
    _pod(objects)["securityContext"]["seccompProfile"]["type"] = "Foo"


def _requests_other_than_limited_gpus(objects: list[Object]) -> None:
    _server(objects)["resources"]["requests"]["nvidia.com/gpu"] = "2"


def _name_with_capitals(objects: list[Object]) -> None:
    the(objects, "PodDisruptionBudget")["metadata"]["name"] = "Vae_Gan"


def _two_handlers_before_stop(objects: list[Object]) -> None:
    _server(objects)["lifecycle"]["preStop"]["exec"] = {"command": ["true"]}


def _least_replicas_over_the_most(objects: list[Object]) -> None:
    spec = the(objects, "HorizontalPodAutoscaler")["spec"]
    spec["minReplicas"] = spec["maxReplicas"] + 1


def _grace_shorter_than_pre_stop(objects: list[Object]) -> None:
    _pod(objects)["terminationGracePeriodSeconds"] = 4


def _grace_shorter_than_the_drain(objects: list[Object]) -> None:
    _pod(objects)["terminationGracePeriodSeconds"] = 70


def _settings_map_that_is_not_there(objects: list[Object]) -> None:
    _server(objects)["envFrom"][0]["configMapRef"]["name"] = "pushforward-settings"


def _service_of_no_pod(objects: list[Object]) -> None:
    the(objects, "Service", "pushforward-metrics")["spec"]["selector"] = {"app": "other"}


def _probe_of_readiness_as_liveness(objects: list[Object]) -> None:
    _server(objects)["livenessProbe"]["httpGet"]["path"] = "/readyz"


def _host_path(objects: list[Object]) -> None:
    _pod(objects)["volumes"].append({"name": "host", "hostPath": {"path": "/"}})


def _kept_capability(objects: list[Object]) -> None:
    _server(objects)["securityContext"]["capabilities"]["add"] = ["NET_ADMIN"]


def _replicas_beside_a_scaler(objects: list[Object]) -> None:
    the(objects, "Deployment")["spec"]["replicas"] = 2


def _scratch_over_its_storage(objects: list[Object]) -> None:
    _pod(objects)["volumes"][0]["emptyDir"]["sizeLimit"] = "5Gi"


def _port_that_the_settings_do_not_say(objects: list[Object]) -> None:
    _server(objects)["ports"][1]["containerPort"] = 9091


def _latest_image(objects: list[Object]) -> None:
    _server(objects)["image"] = "pushforward:latest"


MUTANTS: list[tuple[str, Mutant, str]] = [
    ("cpu", _cpu_of_1x, "'1x' is no quantity of cpu"),
    ("cpu", _port_name_of_twenty_letters, "the port name 'the-main-http-port-1' is none"),
    ("cpu", _port_70000, "there is no port 70000"),
    ("cpu", _selector_of_other_pods, "its selector does not match its own pods"),
    ("cpu", _probe_of_a_missing_port, "its readinessProbe asks the port web"),
    ("cpu", _mount_without_a_volume, "mounts the volume cache"),
    ("cpu", _pull_sometimes, "there is no imagePullPolicy Sometimes"),
    ("cpu", _seccomp_foo, "no seccomp profile that Kubernetes knows"),
    ("gpu", _requests_other_than_limited_gpus, "requests nvidia.com/gpu and its limit differ"),
    ("cpu", _name_with_capitals, "Vae_Gan: the name is no DNS-1123 name"),
    ("cpu", _two_handlers_before_stop, "its preStop has 2 handlers"),
    ("autoscale-hpa", _least_replicas_over_the_most, "its least replicas are more than its most"),
    ("cpu", _grace_shorter_than_pre_stop, "is killed before preStop, delay and drain have ended"),
    ("cpu", _grace_shorter_than_the_drain, "is killed before preStop, delay and drain have ended"),
    ("cpu", _settings_map_that_is_not_there, "there is no ConfigMap pushforward-settings"),
    ("cpu", _service_of_no_pod, "selects no pod"),
    ("cpu", _probe_of_readiness_as_liveness, "its probes are"),
    ("cpu", _host_path, "the volume host is of a kind that `restricted` refuses"),
    ("cpu", _kept_capability, "keeps capabilities"),
    ("autoscale-keda", _replicas_beside_a_scaler, "the Deployment sets replicas too"),
    ("cpu", _scratch_over_its_storage, "its emptyDirs may hold more than its limit"),
    ("cpu", _port_that_the_settings_do_not_say, "its settings say"),
    ("cpu", _latest_image, "has no tag or digest that stays what it is"),
]
"""The first thirteen pass the strict schemas; an overlay, the mistake made in it, and what is found."""


@pytest.fixture(scope="module")
def shipped() -> dict[str, list[Object]]:
    """The objects of every overlay that a mistake is made in."""
    return {overlay: rendered(DEPLOY / "overlays" / overlay) for overlay in {row[0] for row in MUTANTS}}


@pytest.mark.parametrize(
    ("overlay", "mutate", "finding"), MUTANTS, ids=[mutate.__name__[1:] for _, mutate, _ in MUTANTS]
)
def test_a_mistake_is_found(
    shipped: dict[str, list[Object]], overlay: str, mutate: Mutant, finding: str
) -> None:
    objects = copy.deepcopy(shipped[overlay])
    mutate(objects)
    found = findings(objects)
    assert any(finding in one for one in found), found
