from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import PUBLISHED, REPOSITORY
from tests.damage import truncate
from tests.published import manifest_of
from tests.toy import publish_toy

from .gpu_check.parts import PARTS
from .gpu_check.preparation import environment_with, how_to_fetch, missing
from .gpu_check.report import NOT_A_GPU, Found
from .gpu_check.running import Outcome

BRIEFLY = ["--seconds", "0.2"]


def check(*options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.performance.gpu_check", *options]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)


def parts_of(stem: Path) -> dict[str, dict[str, Any]]:
    return {part["name"]: part for part in json.loads(stem.with_suffix(".json").read_text())["parts"]}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_whole_check_runs_on_the_cpu_and_says_that_no_gpu_was_measured(tmp_path: Path) -> None:
    stem = tmp_path / "gpu-check"
    command = ["make", "gpu-check", "DEVICE=cpu", f"CHECK={' '.join(BRIEFLY)} --out {stem}"]
    told = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    parts = parts_of(stem)
    assert told.returncode == 0, [(name, part["reason"], part["log"]) for name, part in parts.items()]
    assert list(parts) == [part.name for part in PARTS]
    assert all(part["state"] == "done" and part["rows"] for part in parts.values())
    assert json.loads(stem.with_suffix(".json").read_text())["gpu_measured"] is False
    assert NOT_A_GPU in stem.with_suffix(".md").read_text()

    agreement = parts["agreement"]["rows"]
    manifests = [manifest_of(name) for name in PUBLISHED]
    graphs = {(manifest.name, graph) for manifest in manifests for graph in manifest.graphs}
    assert {(row["model"], row["graph"]) for row in agreement} == graphs
    assert {(row["model"], row["graph"]) for row in parts["providers"]["rows"]} == graphs
    for row in [*agreement, *parts["rows"]["rows"]]:  # both sides are the CPU
        assert row["absolute"] == row["relative"] == 0, row
    assert all(row["bit for bit equal"] == row["batches"] for row in parts["rows"]["rows"])
    assert all(row["nodes elsewhere"] == 0 for row in parts["providers"]["rows"])
    loads = {row["load"]: row for row in parts["speed"]["rows"]}
    assert list(loads) == ["single-1", "single-32", "single-128", "bulk", "score"]
    assert all(row["samples a second"] > 0 and row["raw, samples a second"] > 0 for row in loads.values())
    float32, bfloat16 = parts["training"]["rows"]
    assert (float32["precision"], bfloat16["precision"]) == ("float32", "bfloat16")
    assert float32["off the CPU's in float32 by"] == 0


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_part_that_fails_or_is_too_slow_is_reported_with_its_rows_and_the_others_go_on(
    tmp_path: Path,
) -> None:
    models, stem = tmp_path / "models", tmp_path / "gpu-check"
    publish_toy(models, "a-toy-vae")
    truncate(publish_toy(models, "broken-vae"))
    publish_toy(models, "toy-vae")
    chosen = [f"--part={name}" for name in ("agreement", "rows", "tests")]
    told = check(
        *("--device", "cpu", "--models", str(models), "--out", str(stem), "--budget", "rows=0.1"),
        *(*chosen, *BRIEFLY),
    )
    parts = parts_of(stem)
    assert told.returncode == 1, told.stderr
    assert {name: part["state"] for name, part in parts.items()} == {
        "agreement": "failed",
        "rows": "out of time",
        "tests": "done",
    }
    assert "broken-vae" in parts["agreement"]["reason"]
    assert {row["model"] for row in parts["agreement"]["rows"]} == {"a-toy-vae", "toy-vae"}
    page = stem.with_suffix(".md").read_text()
    assert "broken-vae" in page
    assert "out of time" in page


def test_asking_for_cuda_where_there_is_no_device_is_refused_at_once(tmp_path: Path) -> None:
    if Path("/dev/nvidiactl").exists():
        pytest.skip("there is an NVIDIA device")
    told = check("--out", str(tmp_path / "gpu-check"))
    assert told.returncode == 2
    assert "there is no NVIDIA device on this machine" in told.stderr
    assert not [*tmp_path.iterdir()]


def test_a_bare_python_is_told_what_it_lacks_and_how_to_fetch_it(tmp_path: Path) -> None:
    script = (
        "from pathlib import Path; from tests.performance.gpu_check.preparation import missing; "
        "print(*missing('cuda', Path('nowhere')))"
    )
    told = subprocess.run(  # -S: without the packages of this environment
        [sys.executable, "-S", "-c", script], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    pins = told.stdout.split()
    names = {pin.partition("==")[0] for pin in pins}
    assert names >= {"numpy", "onnxruntime-gpu", "fastapi", "torch", "nvidia-cudnn-cu13", "pytest"}
    assert how_to_fetch(pins, tmp_path / "wheels").endswith(f"--dest wheels {' '.join(pins)}")
    for pin in missing("cpu", tmp_path):  # newer packages may need none of some that are pinned
        with pytest.raises(PackageNotFoundError):
            version(pin.partition("==")[0])


def test_wheels_that_were_carried_there_are_found_before_all_others_in_one_or_more_pieces(
    tmp_path: Path,
) -> None:
    wheels, site = tmp_path / "wheels", tmp_path / "packages" / "site"
    wheels.mkdir()
    write_wheel(wheels, "whole")
    pieces = write_wheel(wheels, "carried")
    content = pieces.read_bytes()
    pieces.unlink()
    for number in range(3):
        third = -(-len(content) // 3)
        part = wheels / f"{pieces.name}.0{number}"
        part.write_bytes(content[number * third : (number + 1) * third])
    environment = environment_with(wheels, site)
    told = subprocess.run(
        [sys.executable, "-c", "import carried, whole; print(carried.__file__)"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert Path(told.stdout.strip()).is_relative_to(site)


def write_wheel(folder: Path, name: str) -> Path:
    """Writes a wheel of one empty module."""
    path = folder / f"{name}-1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(f"{name}.py", "")
        wheel.writestr(f"{name}-1.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")
        tags = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        wheel.writestr(f"{name}-1.dist-info/WHEEL", tags)
        wheel.writestr(f"{name}-1.dist-info/RECORD", "")
    return path


@pytest.mark.parametrize(
    ("device", "part", "measured"),
    [("cuda", "agreement", True), ("cuda", "machine", False), ("cpu", "agreement", False)],
)
def test_a_gpu_counts_as_measured_only_by_rows_that_were_computed_on_it(
    device: str, part: str, measured: bool
) -> None:
    outcome = Outcome(part, "", "done", 1.0, rows=[{"absolute": 0.0}])
    assert Found(device, "", "", (), (outcome,)).gpu_measured is measured
    assert not Found(device, "", "", (), (Outcome(part, "", "failed", 1.0),)).gpu_measured
