"""The lint finds nothing in what is shipped, and each mistake that a schema would let through."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.deploy.findings import findings
from tests.deploy.rendering import DEPLOY, OVERLAYS, Object, composed, of_kind, pod_of, rendered, the

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


def _trials_as_long_as_without_a_setting(objects: list[Object]) -> None:
    (settings,) = of_kind(objects, "ConfigMap")
    del settings["data"]["PUSHFORWARD_TRIAL_SECONDS"]


def _metrics_for_every_client(objects: list[Object]) -> None:
    (settings,) = of_kind(objects, "ConfigMap")
    del settings["data"]["PUSHFORWARD_PUBLIC_METRICS"]


def _latest_image(objects: list[Object]) -> None:
    _server(objects)["image"] = "pushforward:latest"


def _job(objects: list[Object], name: str) -> tuple[Object, Object]:
    """A Job and its container."""
    job = the(objects, "Job", name)
    (container,) = pod_of(job)["containers"]
    return job, container


def _replace(words: list[str], option: str, value: str) -> None:
    """Give an option of a command another value."""
    (place,) = [place for place, word in enumerate(words) if word.startswith(f"{option}=")]
    words[place] = f"{option}={value}"


def _fewer_pods_than_shards(objects: list[Object]) -> None:
    _job(objects, "pushforward-bulk")[0]["spec"]["completions"] = 4


def _shard_of_a_variable_that_is_not_set(objects: list[Object]) -> None:
    _replace(_job(objects, "pushforward-bulk")[1]["args"], "--shard", "$(JOB_INDEX)/8")


def _job_without_indexes(objects: list[Object]) -> None:
    del _job(objects, "pushforward-bulk")[0]["spec"]["completionMode"]


def _processes_for_every_core_of_the_node(objects: list[Object]) -> None:
    _replace(_job(objects, "pushforward-bulk")[1]["args"], "--processes", "0")


def _shards_on_a_disk_of_one_node(objects: list[Object]) -> None:
    the(objects, "PersistentVolumeClaim", "pushforward-bulk")["spec"]["accessModes"] = ["ReadWriteOnce"]


def _mistakes_that_are_tried_again(objects: list[Object]) -> None:
    del _job(objects, "pushforward-training")[0]["spec"]["podFailurePolicy"]["rules"][0]


def _mistakes_of_a_container_that_is_not_there(objects: list[Object]) -> None:
    _job(objects, "pushforward-training")[1]["name"] = "trainer"


def _machines_one_after_another(objects: list[Object]) -> None:
    _job(objects, "pushforward-distributed")[0]["spec"]["parallelism"] = 1


def _more_machines_than_pods(objects: list[Object]) -> None:
    _replace(_job(objects, "pushforward-distributed")[1]["args"], "--nnodes", "3")


def _same_rank_for_all(objects: list[Object]) -> None:
    _replace(_job(objects, "pushforward-distributed")[1]["args"], "--node-rank", "0")


def _master_of_another_job(objects: list[Object]) -> None:
    address = "pushforward-training-0.pushforward-distributed"
    _replace(_job(objects, "pushforward-distributed")[1]["args"], "--master-addr", address)


def _host_names_of_no_service(objects: list[Object]) -> None:
    del pod_of(the(objects, "Job", "pushforward-distributed"))["subdomain"]


def _service_with_an_address_of_its_own(objects: list[Object]) -> None:
    del the(objects, "Service", "pushforward-distributed")["spec"]["clusterIP"]


def _host_names_only_when_ready(objects: list[Object]) -> None:
    del the(objects, "Service", "pushforward-distributed")["spec"]["publishNotReadyAddresses"]


def _meeting_at_a_port_that_is_not_there(objects: list[Object]) -> None:
    _replace(_job(objects, "pushforward-distributed")[1]["args"], "--master-port", "29400")


def _training_from_the_start(objects: list[Object]) -> None:
    _job(objects, "pushforward-distributed")[1]["args"].remove("--resume")


def _machines_that_may_not_listen_to_each_other(objects: list[Object]) -> None:
    del the(objects, "NetworkPolicy", "allow-distributed-training")["spec"]["ingress"]


def _workers_that_may_not_reach_the_head(objects: list[Object]) -> None:
    policy = the(objects, "NetworkPolicy", "allow-ray")["spec"]
    policy["egress"] = policy["egress"][1:]


def _cluster(objects: list[Object]) -> Object:
    cluster: Object = the(objects, "RayJob", "pushforward-bulk")["spec"]["rayClusterSpec"]
    return cluster


def _ray_container(group: Object) -> Object:
    container: Object = group["template"]["spec"]["containers"][0]
    return container


def _actors_on_the_head(objects: list[Object]) -> None:
    _cluster(objects)["headGroupSpec"]["rayStartParams"]["num-cpus"] = "1"


def _ray_on_more_cores_than_requested(objects: list[Object]) -> None:
    _cluster(objects)["workerGroupSpecs"][0]["rayStartParams"]["num-cpus"] = "16"


def _actors_on_every_core(objects: list[Object]) -> None:
    the(objects, "RayJob", "pushforward-bulk")["spec"]["entrypoint"] += " --processes=8"


def _output_within_the_pod(objects: list[Object]) -> None:
    spec = the(objects, "RayJob", "pushforward-bulk")["spec"]
    spec["entrypoint"] = spec["entrypoint"].replace("/bulk/samples", "/tmp/samples")


def _probe_by_wget(objects: list[Object]) -> None:
    del _ray_container(_cluster(objects)["workerGroupSpecs"][0])["livenessProbe"]


def _worker_that_may_write_its_root(objects: list[Object]) -> None:
    security = _ray_container(_cluster(objects)["workerGroupSpecs"][0])["securityContext"]
    security["readOnlyRootFilesystem"] = False


def _runtime(objects: list[Object]) -> Object:
    (container,) = the(objects, "ServingRuntime")["spec"]["containers"]
    found: Object = container
    return found


def _set(container: Object, variable: str, value: str) -> None:
    (entry,) = [entry for entry in container["env"] if entry["name"] == variable]
    entry["value"] = value


def _model(objects: list[Object]) -> Object:
    model: Object = the(objects, "InferenceService", "pushforward-models")["spec"]["predictor"]["model"]
    return model


def _container_that_kserve_does_not_find(objects: list[Object]) -> None:
    _runtime(objects)["name"] = "server"


def _models_that_kserve_does_not_mount(objects: list[Object]) -> None:
    _set(_runtime(objects), "PUSHFORWARD_MODELS", "/models")


def _runtime_that_is_not_there(objects: list[Object]) -> None:
    _model(objects)["runtime"] = "triton"


def _format_that_the_runtime_does_not_read(objects: list[Object]) -> None:
    _model(objects)["modelFormat"]["name"] = "onnx"


def _protocol_that_the_runtime_does_not_speak(objects: list[Object]) -> None:
    _model(objects)["protocolVersion"] = "v1"


def _grpc_without_a_port(objects: list[Object]) -> None:
    container = _runtime(objects)
    container["env"] = [entry for entry in container["env"] if entry["name"] != "PUSHFORWARD_GRPC_PORT"]


def _claim_of_models_that_is_not_there(objects: list[Object]) -> None:
    _model(objects)["storageUri"] = "pvc://models"


def _predictor(objects: list[Object]) -> Object:
    predictor: Object = the(objects, "InferenceService", "pushforward-models")["spec"]["predictor"]
    return predictor


def _predictor_that_is_killed_before_it_has_drained(objects: list[Object]) -> None:
    del _predictor(objects)["terminationGracePeriodSeconds"]


def _predictor_that_may_be_root(objects: list[Object]) -> None:
    del _predictor(objects)["securityContext"]["runAsNonRoot"]


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
    ("cpu", _trials_as_long_as_without_a_setting, "has less than 500 s to start"),
    ("cpu", _metrics_for_every_client, "answers /metrics to every client"),
    ("cpu", _latest_image, "has no tag or digest that stays what it is"),
    ("batch-job", _fewer_pods_than_shards, "$(JOB_COMPLETION_INDEX)/8 for 4 completions"),
    ("batch-job", _shard_of_a_variable_that_is_not_set, "uses the variable JOB_INDEX, which is not set"),
    ("batch-job", _job_without_indexes, "uses the variable JOB_COMPLETION_INDEX, which is not set"),
    ("batch-job", _processes_for_every_core_of_the_node, "requests 2 cores for 0 processes"),
    ("batch-job", _shards_on_a_disk_of_one_node, "several pods at once cannot mount pushforward-bulk"),
    ("train-job", _mistakes_that_are_tried_again, "tries a mistaken command again"),
    ("train-job", _mistakes_of_a_container_that_is_not_there, "tries a mistaken command again"),
    ("train-distributed", _machines_one_after_another, "its pods do not run at once"),
    (
        "train-distributed",
        _more_machines_than_pods,
        "its pods do not run at once, one for each of 3 machines",
    ),
    ("train-distributed", _same_rank_for_all, "the rank of a machine is not the index of its pod"),
    ("train-distributed", _master_of_another_job, "is not the host name of pod 0"),
    ("train-distributed", _host_names_of_no_service, "is not the host name of pod 0"),
    ("train-distributed", _service_with_an_address_of_its_own, "is no headless Service"),
    ("train-distributed", _host_names_only_when_ready, "that names pods before they are ready"),
    ("train-distributed", _meeting_at_a_port_that_is_not_there, "has no port 29400 to meet at"),
    ("train-distributed", _training_from_the_start, "begins anew after the death of a pod"),
    (
        "train-distributed",
        _machines_that_may_not_listen_to_each_other,
        "allows its pods ingress from each other",
    ),
    ("bulk-ray", _workers_that_may_not_reach_the_head, "allows its pods egress to each other"),
    ("bulk-ray", _actors_on_the_head, "its head runs actors"),
    ("bulk-ray", _ray_on_more_cores_than_requested, "Ray counts on other cores than the workers request"),
    ("bulk-ray", _actors_on_every_core, "actors on all 8 cores leave none to what they wait for"),
    ("bulk-ray", _output_within_the_pod, "/tmp/samples is not on a volume"),
    ("bulk-ray", _probe_by_wget, "without a livenessProbe it gets one that needs wget"),
    ("bulk-ray", _worker_that_may_write_its_root, "container ray-worker: may write to its root"),
    ("kserve", _container_that_kserve_does_not_find, "looks for a container named kserve-container"),
    ("kserve", _models_that_kserve_does_not_mount, "does not serve /mnt/models"),
    ("kserve", _runtime_that_is_not_there, "there is no ServingRuntime triton"),
    ("kserve", _format_that_the_runtime_does_not_read, "the runtime does not read the format"),
    ("kserve", _protocol_that_the_runtime_does_not_speak, "the runtime does not speak v1"),
    ("kserve", _grpc_without_a_port, "grpc-v2 and a port for it must go together"),
    ("kserve", _claim_of_models_that_is_not_there, "there is no PersistentVolumeClaim models"),
    ("kserve", _predictor_that_is_killed_before_it_has_drained, "is killed before preStop, delay and drain"),
    ("kserve", _predictor_that_may_be_root, "InferenceService pushforward-models: may run as root"),
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
