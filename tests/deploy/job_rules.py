"""Rules for jobs of several pods, Ray and KServe that the schemas of their objects do not have."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise

from tests.deploy.lint import Rule
from tests.deploy.rendering import Object, containers, name_of, of_kind, pod_of, pod_templates, variables

INDEX = "JOB_COMPLETION_INDEX"
"""The variable in which the pod of an Indexed Job finds its index."""


def words_use_variables_that_are_set(objects: list[Object]) -> Iterator[str]:
    for job in of_kind(objects, "Job"):
        for container in containers(pod_of(job)):
            used = set(re.findall(r"\$\((\w+)\)", " ".join(_words(container))))
            known = set(variables(container))
            if job["spec"].get("completionMode") == "Indexed":
                known |= {INDEX}
            for variable in sorted(used - known):
                yield f"{name_of(job)}: uses the variable {variable}, which is not set"


def shards_are_completions(objects: list[Object]) -> Iterator[str]:
    for job in of_kind(objects, "Job"):
        for container in pod_of(job)["containers"]:
            shard = _options(container).get("--shard")
            wanted = f"$({INDEX})/{job['spec']['completions']}" if shard else None
            if shard != wanted:
                yield f"{name_of(job)}: takes the shards {shard} for {job['spec']['completions']} completions"


def processes_are_the_cores_requested(objects: list[Object]) -> Iterator[str]:
    for job in of_kind(objects, "Job"):
        for container in pod_of(job)["containers"]:
            cores = container["resources"]["requests"]["cpu"]
            processes = _options(container).get("--processes")
            if "bulk" in _words(container) and processes != cores:
                yield f"{name_of(job)}: requests {cores} cores for {processes} processes"


def mistakes_fail_the_job_at_once(objects: list[Object]) -> Iterator[str]:
    """Find Jobs that try a command again which ended with the status of a user's mistake."""
    for job in of_kind(objects, "Job"):
        rules = job["spec"].get("podFailurePolicy", {}).get("rules", [])
        final = [rule["onExitCodes"] for rule in rules if rule["action"] == "FailJob"]
        for container in pod_of(job)["containers"]:
            mistake = {"containerName": container["name"], "operator": "In", "values": [2]}
            if container["command"][0].endswith("/pushforward") and mistake not in final:
                yield f"{name_of(job)}: tries a mistaken command again"


def machines_meet_at_pod_0(objects: list[Object]) -> Iterator[str]:
    """Find what torchrun's static rendezvous misses in an Indexed Job."""
    services = {service["metadata"]["name"]: service["spec"] for service in of_kind(objects, "Service")}
    for job in of_kind(objects, "Job"):
        for container in pod_of(job)["containers"]:
            options = _options(container)
            if "--nnodes" not in options:
                continue
            name, machines = name_of(job), options["--nnodes"]
            if [str(job["spec"][key]) for key in ("completions", "parallelism")] != [machines] * 2:
                yield f"{name}: its pods do not run at once, one for each of {machines} machines"
            if options.get("--node-rank") != f"$({INDEX})":
                yield f"{name}: the rank of a machine is not the index of its pod"
            subdomain = pod_of(job).get("subdomain")
            if options.get("--master-addr") != f"{job['metadata']['name']}-0.{subdomain}":
                yield f"{name}: {options.get('--master-addr')} is not the host name of pod 0"
            service = services.get(subdomain, {})
            if service.get("clusterIP") != "None" or service.get("publishNotReadyAddresses") is not True:
                yield f"{name}: {subdomain} is no headless Service that names pods before they are ready"
            ports = [str(port["containerPort"]) for port in container.get("ports", [])]
            if options.get("--master-port") not in ports:
                yield f"{name}: has no port {options.get('--master-port')} to meet at"
            if "--resume" not in _words(container):
                yield f"{name}: begins anew after the death of a pod"


def pods_at_once_share_their_storage(objects: list[Object]) -> Iterator[str]:
    modes = {
        claim["metadata"]["name"]: claim["spec"]["accessModes"]
        for claim in of_kind(objects, "PersistentVolumeClaim")
    }
    several = [
        item
        for item in objects
        if item["kind"] == "RayJob" or (item["kind"] == "Job" and item["spec"].get("parallelism", 1) > 1)
    ]
    for name, template in pod_templates(several):
        for volume in template["spec"]["volumes"]:
            claim = volume.get("persistentVolumeClaim", {}).get("claimName")
            if claim in modes and "ReadWriteMany" not in modes[claim]:
                yield f"{name}: several pods at once cannot mount {claim}"


def pods_that_talk_are_allowed_to(objects: list[Object]) -> Iterator[str]:
    """Find pods of a distributed training, or of Ray, that may not reach each other in both directions."""
    talking = [
        item
        for item in objects
        if item["kind"] == "RayJob"
        or (item["kind"] == "Job" and "--nnodes" in _options(pod_of(item)["containers"][0]))
    ]
    policies = [policy["spec"] for policy in of_kind(objects, "NetworkPolicy")]
    for name, template in pod_templates(talking):
        labels = template["metadata"]["labels"].items()
        own = [
            policy for policy in policies if policy["podSelector"].get("matchLabels", {}).items() <= labels
        ]
        for direction, end in (("ingress", "from"), ("egress", "to")):
            peers = [
                peer["podSelector"].get("matchLabels", {}).items() <= labels
                for policy in own
                for rule in policy.get(direction, [])
                if "ports" not in rule
                for peer in rule[end]
                if "podSelector" in peer and "namespaceSelector" not in peer
            ]
            if not any(peers):
                yield f"{name}: no NetworkPolicy allows its pods {direction} {end} each other"


def ray_counts_on_what_pods_request(objects: list[Object]) -> Iterator[str]:
    for job in of_kind(objects, "RayJob"):
        cluster = job["spec"]["rayClusterSpec"]
        head, workers = cluster["headGroupSpec"], cluster["workerGroupSpecs"]
        if head["rayStartParams"].get("num-cpus") != "0":
            yield f"{name_of(job)}: its head runs actors, and may be killed with them"
        for group in workers:
            (container,) = group["template"]["spec"]["containers"]
            if group["rayStartParams"].get("num-cpus") != container["resources"]["requests"]["cpu"]:
                yield f"{name_of(job)}: Ray counts on other cores than the workers request"
        options = _options({"command": job["spec"]["entrypoint"].split()})
        cores = sum(group["replicas"] * int(group["rayStartParams"]["num-cpus"]) for group in workers)
        if int(options.get("--processes", "0")) >= cores:
            yield f"{name_of(job)}: actors on all {cores} cores leave none to what they wait for"
        out = options.get("--out", "")
        for name, template in pod_templates([job]):
            (container,) = template["spec"]["containers"]
            folders = [mount["mountPath"] + "/" for mount in container["volumeMounts"]]
            if not any(out.startswith(folder) and folder != "/tmp/" for folder in folders):
                yield f"{name}: {out} is not on a volume"
            for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                if "httpGet" not in container.get(probe, {}):
                    yield f"{name}: without a {probe} it gets one that needs wget"


def inference_services_fit_their_runtime(objects: list[Object]) -> Iterator[str]:
    runtimes = {item["metadata"]["name"]: item["spec"] for item in of_kind(objects, "ServingRuntime")}
    claims = {item["metadata"]["name"] for item in of_kind(objects, "PersistentVolumeClaim")}
    for service in of_kind(objects, "InferenceService"):
        name, model = name_of(service), service["spec"]["predictor"]["model"]
        runtime = runtimes.get(model["runtime"])
        if runtime is None:
            yield f"{name}: there is no ServingRuntime {model['runtime']}"
            continue
        formats = [{key: one[key] for key in ("name", "version")} for one in runtime["supportedModelFormats"]]
        if model["modelFormat"] not in formats:
            yield f"{name}: the runtime does not read the format {model['modelFormat']}"
        if model["protocolVersion"] not in runtime["protocolVersions"]:
            yield f"{name}: the runtime does not speak {model['protocolVersion']}"
        claim = model["storageUri"].removeprefix("pvc://").split("/")[0]
        if model["storageUri"].startswith("pvc://") and claim not in claims:
            yield f"{name}: there is no PersistentVolumeClaim {claim}"
    for name, runtime in runtimes.items():
        (container,) = runtime["containers"]
        if container["name"] != "kserve-container":
            yield f"ServingRuntime {name}: KServe looks for a container named kserve-container"
        if variables(container).get("PUSHFORWARD_MODELS") != "/mnt/models":
            yield f"ServingRuntime {name}: does not serve /mnt/models, where KServe mounts the models"
        if ("grpc-v2" in runtime["protocolVersions"]) != ("PUSHFORWARD_GRPC_PORT" in variables(container)):
            yield f"ServingRuntime {name}: grpc-v2 and a port for it must go together"


def _words(container: Object) -> list[str]:
    return [*container.get("command", []), *container.get("args", [])]


def _options(container: Object) -> dict[str, str]:
    """Return the options of a container's command that have a value, after a space or an equals sign."""
    words = _words(container)
    pairs = dict(word.split("=", 1) for word in words if word.startswith("--") and "=" in word)
    return pairs | {word: after for word, after in pairwise(words) if word.startswith("--")}


RULES: tuple[Rule, ...] = (
    words_use_variables_that_are_set,
    shards_are_completions,
    processes_are_the_cores_requested,
    mistakes_fail_the_job_at_once,
    machines_meet_at_pod_0,
    pods_at_once_share_their_storage,
    pods_that_talk_are_allowed_to,
    ray_counts_on_what_pods_request,
    inference_services_fit_their_runtime,
)
