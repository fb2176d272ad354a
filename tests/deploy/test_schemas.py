"""Every object fits the schemas: Kubernetes's own of eight releases, and those of custom resources."""

from __future__ import annotations

from typing import Any

import kubernetes_validate
import pytest
from cloudcoil.models.keda.v1alpha1 import ScaledObject
from cloudcoil.models.prometheus_operator.v1 import PrometheusRule, ServiceMonitor

from tests.deploy.rendering import DEPLOY, OVERLAYS, Object, pod_of, rendered, the

pytestmark = pytest.mark.deploy

RELEASES = tuple(f"1.{minor}" for minor in range(30, 38))
CUSTOM: dict[str, Any] = {
    "PrometheusRule": PrometheusRule,
    "ScaledObject": ScaledObject,
    "ServiceMonitor": ServiceMonitor,
}
"""The only kinds that Kubernetes may not know; any other unknown kind is an error."""


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
        if item["kind"] not in CUSTOM:
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
