"""Every object fits the schemas: Kubernetes's own of eight releases, and those of custom resources."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import kubernetes_validate
import pytest
from cloudcoil.models.keda.v1alpha1 import ScaledObject
from cloudcoil.models.prometheus_operator.v1 import PrometheusRule, ServiceMonitor
from referencing import Registry, Resource

from tests.deploy.rendering import DEPLOY, OVERLAYS, Object, pod_of, rendered, the

pytestmark = pytest.mark.deploy

RELEASES = tuple(f"1.{minor}" for minor in range(30, 38))
CUSTOM: dict[str, Any] = {
    "PrometheusRule": PrometheusRule,
    "ScaledObject": ScaledObject,
    "ServiceMonitor": ServiceMonitor,
}
"""Kinds of operators whose models are packages."""
WRITTEN = {
    "InferenceService": "inference-service",
    "RayJob": "ray-job",
    "ServingRuntime": "serving-runtime",
}
"""Kinds of operators that no package has models of, and the names of our schemas; any other is an error."""


@pytest.fixture(scope="module")
def every_object() -> list[Object]:
    """The objects of all overlays, each once."""
    objects: list[Object] = []
    for overlay in OVERLAYS:
        objects += [item for item in rendered(DEPLOY / "overlays" / overlay) if item not in objects]
    return objects


@pytest.mark.parametrize("release", RELEASES)
def test_a_release_of_kubernetes_knows_every_field(every_object: list[Object], release: str) -> None:
    for item in every_object:
        if item["kind"] not in CUSTOM.keys() | WRITTEN.keys():
            kubernetes_validate.validate(item, release, strict=True)


def test_a_field_that_a_release_lacks_is_refused() -> None:
    deployment = the(rendered(DEPLOY / "overlays/cpu"), "Deployment")
    with pytest.raises(kubernetes_validate.ValidationError, match="sleep"):
        kubernetes_validate.validate(deployment, "1.28", strict=True)
    pod_of(deployment)["terminationGraceSeconds"] = 80
    with pytest.raises(kubernetes_validate.ValidationError, match="terminationGraceSeconds"):
        kubernetes_validate.validate(deployment, RELEASES[-1], strict=True)


def test_custom_resources_fit_their_models_without_a_key_left_over(every_object: list[Object]) -> None:
    seen = set()
    for item in every_object:
        if item["kind"] in CUSTOM:
            model = CUSTOM[item["kind"]].model_validate(item)
            assert model.model_dump(mode="json", by_alias=True, exclude_none=True) == item
            seen.add(item["kind"])
    assert seen == CUSTOM.keys()


@cache
def written_schema(kind: str, release: str) -> jsonschema.Draft202012Validator:
    """Our schema of a kind, whose pods are those of a release of Kubernetes."""
    schema = json.loads((Path(__file__).parent / "schemas" / f"{WRITTEN[kind]}.json").read_text())
    schemas = Path(kubernetes_validate.__file__).parent / "kubernetes-json-schema"
    definitions = json.loads((schemas / f"v{release}.0-local-strict/_definitions.json").read_text())
    registry = Registry().with_resource("_definitions.json", Resource.from_contents(definitions))
    return jsonschema.Draft202012Validator(schema, registry=registry)


@pytest.mark.parametrize("release", [RELEASES[0], RELEASES[-1]])
def test_resources_of_ray_and_kserve_fit_what_their_references_say(
    every_object: list[Object], release: str
) -> None:
    items = [item for item in every_object if item["kind"] in WRITTEN]
    assert {item["kind"] for item in items} == WRITTEN.keys()
    for item in items:
        written_schema(item["kind"], release).validate(item)


def _misspelt_worker_groups(objects: dict[str, Object]) -> None:
    cluster = objects["RayJob"]["spec"]["rayClusterSpec"]
    cluster["workerGroupSpec"] = cluster.pop("workerGroupSpecs")


def _cores_of_ray_as_a_number(objects: dict[str, Object]) -> None:
    objects["RayJob"]["spec"]["rayClusterSpec"]["headGroupSpec"]["rayStartParams"]["num-cpus"] = 0


def _misspelt_field_of_a_pod_of_ray(objects: dict[str, Object]) -> None:
    pod = objects["RayJob"]["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]
    pod["securitycontext"] = pod.pop("securityContext")


def _security_of_the_pod_in_a_runtime(objects: dict[str, Object]) -> None:
    objects["ServingRuntime"]["spec"]["securityContext"] = {"runAsNonRoot": True}


def _protocol_that_does_not_exist(objects: dict[str, Object]) -> None:
    objects["ServingRuntime"]["spec"]["protocolVersions"] = ["v3"]


def _storage_beside_the_model(objects: dict[str, Object]) -> None:
    predictor = objects["InferenceService"]["spec"]["predictor"]
    predictor["storageUri"] = predictor["model"].pop("storageUri")


@pytest.mark.parametrize(
    ("kind", "mutate", "message"),
    [
        ("RayJob", _misspelt_worker_groups, "'workerGroupSpec' was unexpected"),
        ("RayJob", _cores_of_ray_as_a_number, "0 is not of type 'string'"),
        ("RayJob", _misspelt_field_of_a_pod_of_ray, "'securitycontext' was unexpected"),
        ("ServingRuntime", _security_of_the_pod_in_a_runtime, "'securityContext' was unexpected"),
        ("ServingRuntime", _protocol_that_does_not_exist, "'v3' is not one of"),
        ("InferenceService", _storage_beside_the_model, "'storageUri' was unexpected"),
    ],
)
def test_our_schemas_refuse_a_mistake(
    every_object: list[Object], kind: str, mutate: Callable[[dict[str, Object]], None], message: str
) -> None:
    objects = copy.deepcopy({item["kind"]: item for item in every_object if item["kind"] in WRITTEN})
    mutate(objects)
    with pytest.raises(jsonschema.ValidationError, match=re.escape(message)):
        written_schema(kind, RELEASES[-1]).validate(objects[kind])
