"""The image's recipe and locks, by hadolint and checkov and against the project's own pins."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest

from tests.deploy.locks import lock, pins
from tests.deploy.rendering import DEPLOY, OVERLAYS, containers, pod_templates, rendered, the

pytestmark = pytest.mark.deploy

CHECKOV = DEPLOY.parent / ".venv-checkov/bin/checkov"
IMAGE_EXCEPTIONS = {
    "CKV_DOCKER_7": "checkov does not resolve the argument BASE, whose default has a tag",
}
EXCEPTIONS = {
    "CKV_K8S_11": "a quota would stop a pod amid a batch while its node idles; requests share fairly",
    "CKV_K8S_43": "the tag is a default; a release names its digest under `images`, once it is pushed",
    "CKV_K8S_15": "IfNotPresent with a tag that never moves, so a pod starts while the registry is down",
}
"""The findings of checkov that are intended, and why; each must still be found, else it is no exception."""

RAY = {
    "aiohttp-cors", "colorful", "distlib", "google-api-core", "google-auth", "msgpack", "opencensus",
    "opencensus-context", "opentelemetry-exporter-prometheus", "pandas", "proto-plus", "pyasn1",
    "pyasn1-modules", "python-discovery", "ray", "smart-open", "virtualenv",
}  # fmt: skip
"""Ray, and what only its dashboard and Ray Data need: in the image `bulk` and nowhere else."""


def test_hadolint_has_nothing_to_say() -> None:
    hadolint = Path(sys.executable).parent / "hadolint"
    told = subprocess.run([hadolint, DEPLOY / "Dockerfile"], capture_output=True, text=True)
    assert (told.returncode, told.stdout) == (0, "")


def failed_checks(framework: str, *options: str | Path) -> set[str]:
    """The identifiers of the checks that fail; needs no network."""
    command = [
        str(CHECKOV),
        "--framework",
        framework,
        "--compact",
        "--quiet",
        "--skip-download",
        "-o",
        "json",
    ]
    told = subprocess.run([*command, *map(str, options)], capture_output=True, text=True)
    report = json.loads(told.stdout)
    assert report["summary"]["parsing_errors"] == 0
    assert report["summary"]["passed"] > 0
    return {check["check_id"] for check in report["results"]["failed_checks"]}


def test_checkov_finds_in_the_manifests_what_is_explained_and_nothing_else(tmp_path: Path) -> None:
    for overlay in OVERLAYS:
        rendering = subprocess.run(
            ["kubectl", "kustomize", DEPLOY / "overlays" / overlay], capture_output=True
        )
        (tmp_path / f"{overlay}.yaml").write_bytes(rendering.stdout)
    assert failed_checks("kubernetes", "--directory", tmp_path) == EXCEPTIONS.keys()


def test_checkov_finds_in_the_image_recipe_what_is_explained_and_nothing_else() -> None:
    assert failed_checks("dockerfile", "--file", DEPLOY / "Dockerfile") == IMAGE_EXCEPTIONS.keys()


@pytest.mark.parametrize("target", ["cpu", "gpu", "train", "bulk"])
def test_a_lock_pins_what_the_tests_ran_with_by_hash(target: str) -> None:
    requirements = re.split(r"\n(?=[\w#])", lock(target).read_text())
    assert all("--hash=sha256:" in one for one in requirements if not one.startswith("#"))
    constrained, locked = pins(DEPLOY.parent / "constraints.txt"), pins(lock(target))
    # ONNX Runtime's build without CUDA has the version of the one with it
    constrained["onnxruntime"] = constrained["onnxruntime-gpu"]
    known = locked.keys() & constrained.keys()
    assert {name: locked[name] for name in known} == {name: constrained[name] for name in known}
    unknown = locked.keys() - known - RAY
    assert not [name for name in unknown if not name.startswith(("nvidia-", "cuda-", "triton", "setuptools"))]


def test_the_image_without_a_gpu_has_no_cuda_and_no_training_library() -> None:
    names = pins(lock("cpu"))
    assert "onnxruntime" in names
    assert not [
        name for name in names if name.startswith(("nvidia", "torch", "cuda")) or name.endswith("-gpu")
    ]


def test_the_image_of_bulk_work_has_ray_and_its_dashboard_and_no_training_library() -> None:
    names = pins(lock("bulk"))
    assert names.keys() >= RAY | {"pyarrow", "fsspec", "s3fs", "onnxruntime"}
    assert not [name for name in names if name.startswith(("nvidia", "torch")) or name.endswith("-gpu")]
    cluster = the(rendered(DEPLOY / "overlays/bulk-ray"), "RayJob", "pushforward-bulk")["spec"]
    assert cluster["rayClusterSpec"]["rayVersion"] == names["ray"]


def test_each_image_that_an_overlay_names_is_a_target_of_the_recipe() -> None:
    targets = set(re.findall(r"^FROM \S+ AS (\w+)$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE))
    named = {
        container["image"].rpartition("-")[2]
        for overlay in OVERLAYS
        for objects in [rendered(DEPLOY / "overlays" / overlay)]
        for _, template in pod_templates(objects)
        for container in containers(template["spec"])
    }
    assert named == {"cpu", "gpu", "train", "bulk"}
    assert named <= targets


def test_what_the_recipe_copies_is_let_through() -> None:
    recipe, ignored = (DEPLOY / "Dockerfile").read_text(), (DEPLOY / "Dockerfile.dockerignore").read_text()
    copied = {
        name
        for line in re.findall(r"^COPY (?!--from)(.+) \S+$", recipe, re.MULTILINE)
        for name in line.split()
    }
    rules = [line.removeprefix("!") for line in ignored.splitlines() if line.startswith("!")]
    assert copied >= {"pushforward", "service", "training", "models", "pyproject.toml"}
    for name in copied:
        assert any(fnmatch(name, rule) for rule in rules), name
        assert (DEPLOY.parent / name).exists(), name
