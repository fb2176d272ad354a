"""Each overlay and component has the effect it is there for; a patch that matches nothing would be silent."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import httpx
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from service.lifecycle.remote import PullSettings
from service.settings import Settings
from tests.deploy.findings import findings
from tests.deploy.pods import command_here
from tests.deploy.rendering import DEPLOY, OVERLAYS, Object, composed, of_kind, pod_of, rendered, the

pytestmark = pytest.mark.deploy


def overlay(name: str) -> list[Object]:
    return rendered(DEPLOY / "overlays" / name)


def settings_of(objects: list[Object], prefix: str = "pushforward-settings") -> dict[str, str]:
    """The data of the one ConfigMap whose name begins so."""
    (found,) = [item for item in of_kind(objects, "ConfigMap") if item["metadata"]["name"].startswith(prefix)]
    data: dict[str, str] = found["data"]
    return data


def test_the_overlays_are_those_that_are_documented() -> None:
    text = (DEPLOY.parent / "docs/deploy.md").read_text()
    for name in OVERLAYS:
        assert f"`{name}`" in text


def test_on_the_cpu_a_pod_counts_on_the_cores_it_requests_and_has_no_gpu() -> None:
    objects = overlay("cpu")
    (server,) = pod_of(the(objects, "Deployment"))["containers"]
    assert settings_of(objects)["PUSHFORWARD_DEVICE"] == "cpu"
    (cores,) = [entry for entry in server["env"] if entry["name"] == "PUSHFORWARD_CORES"]
    assert cores["valueFrom"]["resourceFieldRef"]["resource"] == "requests.cpu"
    assert "nvidia" not in yaml.safe_dump(objects)


def test_on_a_gpu_a_pod_gets_one_and_needs_none_to_spare_to_roll_out() -> None:
    objects = overlay("gpu")
    deployment = the(objects, "Deployment")
    pod = pod_of(deployment)
    assert settings_of(objects)["PUSHFORWARD_DEVICE"] == "cuda"
    assert pod["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert pod["containers"][0]["image"].endswith("-gpu")
    assert pod["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    assert pod["nodeSelector"] == {"nvidia.com/gpu.present": "true"}
    assert deployment["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 0, "maxUnavailable": 1}
    (cores,) = [entry for entry in pod["containers"][0]["env"] if entry["name"] == "PUSHFORWARD_CORES"]
    assert "valueFrom" in cores


@pytest.mark.parametrize(
    ("name", "kind"), [("autoscale-hpa", "HorizontalPodAutoscaler"), ("autoscale-keda", "ScaledObject")]
)
def test_an_autoscaler_owns_the_replicas(name: str, kind: str) -> None:
    objects = overlay(name)
    assert the(objects, kind)["spec"]["scaleTargetRef"]["name"] == "pushforward"
    assert "replicas" not in the(objects, "Deployment")["spec"]


def test_keda_asks_for_a_metric_that_the_service_exports(client: httpx.Client) -> None:
    (trigger,) = the(overlay("autoscale-keda"), "ScaledObject")["spec"]["triggers"]
    families = text_string_to_metric_families(client.get("/metrics").text)
    exported = {sample.name for family in families for sample in family.samples}
    assert set(re.findall(r"pushforward_\w+", trigger["metadata"]["query"])) <= exported


def test_monitoring_brings_the_plain_rules_and_the_dashboard_to_the_operator() -> None:
    objects = overlay("monitoring")
    for name in ("recording-rules", "alert-rules"):
        plain = yaml.safe_load((DEPLOY / "monitoring" / f"{name}.yaml").read_text())
        assert the(objects, "PrometheusRule", f"pushforward-{name}")["spec"] == plain
    dashboard = settings_of(objects, "pushforward-dashboard")["pushforward.json"]
    assert dashboard == (DEPLOY / "monitoring/dashboard.json").read_text()
    (endpoint,) = the(objects, "ServiceMonitor")["spec"]["endpoints"]
    (port,) = the(objects, "Service", "pushforward-metrics")["spec"]["ports"]
    assert endpoint["port"] == port["name"]


@pytest.mark.parametrize("name", ["cpu", "gpu"])
def test_the_settings_are_those_of_the_service_and_fit(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for key, value in settings_of(overlay(name)).items():
        assert key.removeprefix("PUSHFORWARD_").lower() in Settings.model_fields, key
        monkeypatch.setenv(key, value)
    settings = Settings()
    assert settings.replicas == 1
    assert settings.drain_seconds >= settings.deadline_seconds


def test_pulled_models_are_verified_before_a_server_that_cannot_write_them_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects = composed(tmp_path, "cpu", "pulled-models")
    pod = pod_of(the(objects, "Deployment"))
    (pull,), (server,) = pod["initContainers"], pod["containers"]
    assert pull["image"] == server["image"]
    assert {"name": "models", "mountPath": "/models", "readOnly": True} in server["volumeMounts"]
    assert f"--into={settings_of(objects)['PUSHFORWARD_MODELS']}" in pull["command"]
    for key, value in settings_of(objects, "pushforward-pull").items():
        monkeypatch.setenv(key, value)
    pins = PullSettings().versions.split()
    for pin in pins:
        version, _, digest = pin.partition("@sha256:")
        assert (DEPLOY.parent / "models" / version).is_dir()
        assert len(digest) == 64


def test_keys_come_as_a_file_of_a_secret_that_is_the_users_own(tmp_path: Path) -> None:
    objects = composed(tmp_path, "cpu", "keys")
    pod = pod_of(the(objects, "Deployment"))
    (server,), (volume,) = pod["containers"], [one for one in pod["volumes"] if "secret" in one]
    (mount,) = [one for one in server["volumeMounts"] if one["name"] == volume["name"]]
    assert mount["readOnly"]
    file = Path(settings_of(objects)["PUSHFORWARD_KEYS_FILE"])
    assert str(file.parent) == mount["mountPath"]
    assert [one for one in findings(objects) if "Secret" not in one] == []
    assert any("there is no Secret pushforward-keys" in one for one in findings(objects))


def test_a_writable_root_is_writable(tmp_path: Path) -> None:
    (server,) = pod_of(the(composed(tmp_path, "gpu", "writable-root"), "Deployment"))["containers"]
    assert server["securityContext"]["readOnlyRootFilesystem"] is False


def test_the_train_job_trains_a_recipe_that_is_shipped_and_resumes() -> None:
    objects = overlay("train-job")
    (training,) = pod_of(the(objects, "Job", "pushforward-training"))["containers"]
    assert "--resume" in training["args"]
    shipped = (DEPLOY.parent / "training/recipes/digits-vae.toml").read_text()
    assert settings_of(objects, "pushforward-recipe")["recipe.toml"] == shipped


def test_a_mistake_in_the_recipe_has_the_status_that_fails_the_train_job(tmp_path: Path) -> None:
    job = the(overlay("train-job"), "Job", "pushforward-training")
    (training,) = pod_of(job)["containers"]
    (tmp_path / "recipe.toml").write_text("[loop]\nstebs = 3\n")
    command = command_here(training, {}, {"/etc/pushforward": str(tmp_path), "/training": str(tmp_path)})
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    (rule,) = [rule for rule in job["spec"]["podFailurePolicy"]["rules"] if rule["action"] == "FailJob"]
    assert [done.returncode] == rule["onExitCodes"]["values"], done.stderr
    assert "did you mean 'loop.steps'?" in done.stderr
