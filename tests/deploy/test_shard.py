"""The command of `batch-job`, run here for each shard, makes the samples that one request would answer."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import httpx
import numpy as np
import pyarrow.parquet
import pytest

from tests.deploy.pods import command_here
from tests.deploy.rendering import DEPLOY, Object, pod_of, rendered, the
from tests.serving import npy

pytestmark = pytest.mark.deploy

COUNT = 1_000


@pytest.fixture(scope="module")
def job() -> Object:
    return the(rendered(DEPLOY / "overlays/batch-job"), "Job", "pushforward-bulk")


def start(job: Object, index: int, models: Path, out: Path, **changed: str) -> subprocess.Popen[str]:
    """Start the container of an index, for two shards of fewer samples, in many parts."""
    (container,) = pod_of(job)["containers"]
    replaced = {
        "--count=1000000": f"--count={COUNT}",
        f"/{job['spec']['completions']}": "/2",
        "--local=/models": f"--local={models}",
        "/bulk/samples": str(out),
        **changed,
    }
    command = command_here(container, {"JOB_COMPLETION_INDEX": str(index)}, replaced)
    return subprocess.Popen([*command, "--part-rows=64"], stderr=subprocess.PIPE, text=True)


def finish(shards: list[subprocess.Popen[str]]) -> None:
    messages = [shard.communicate(timeout=100)[1] for shard in shards]
    assert [shard.returncode for shard in shards] == [0] * len(shards), messages


@pytest.fixture(scope="module")
def made(job: Object, models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a folder by two shards at once."""
    out = tmp_path_factory.mktemp("made") / "samples"
    finish([start(job, index, models, out) for index in range(2)])
    return out


def test_shards_together_are_one_request_bit_for_bit(made: Path, client: httpx.Client) -> None:
    table = pyarrow.parquet.read_table(made).sort_by("row")
    assert table["row"].to_pylist() == list(range(COUNT))
    query = f"/v1/models/fashion-vae/versions/5/sample?count={COUNT}&seed=7"
    whole = npy(client.get(query, headers={"accept": "application/x-npy"}))
    samples = table["sample"].combine_chunks().flatten().to_numpy().reshape(whole.shape)
    np.testing.assert_array_equal(samples, whole)


def test_a_shard_that_is_started_again_makes_only_what_is_missing(
    job: Object, models: Path, made: Path, tmp_path: Path
) -> None:
    out = tmp_path / "samples"
    shutil.copytree(made, out)
    parts = sorted(out.rglob("*.parquet"))
    whole = {path: path.read_bytes() for path in parts}
    parts[0].unlink()
    kept = {path: path.stat().st_mtime_ns for path in parts[1:]}
    finish([start(job, index, models, out) for index in range(2)])
    assert {path: path.read_bytes() for path in out.rglob("*.parquet")} == whole
    assert {path: path.stat().st_mtime_ns for path in kept} == kept


def test_a_mistake_in_the_command_has_the_status_that_fails_the_job(
    job: Object, models: Path, tmp_path: Path
) -> None:
    shard = start(job, 0, models, tmp_path / "out", **{"fashion-vae": "no-such-model"})
    _, message = shard.communicate(timeout=60)
    (rule,) = [rule for rule in job["spec"]["podFailurePolicy"]["rules"] if rule["action"] == "FailJob"]
    assert [shard.returncode] == rule["onExitCodes"]["values"]
    assert "no-such-model" in message


def test_the_job_names_a_version_that_is_published(job: Object) -> None:
    (container,) = pod_of(job)["containers"]
    (name,) = [word for word in container["args"] if (DEPLOY.parent / "models" / word).is_dir()]
    (version,) = [word for word in container["args"] if word.startswith("--version=")]
    version = version.removeprefix("--version=")
    assert (DEPLOY.parent / "models" / name / version / "manifest.json").is_file()


def test_the_entrypoint_on_ray_is_understood_up_to_the_cluster_that_is_not_here(
    models: Path, tmp_path: Path
) -> None:
    job = the(rendered(DEPLOY / "overlays/bulk-ray"), "RayJob", "pushforward-bulk")
    replaced = {"--local=/models": f"--local={models}", "/bulk/samples": str(tmp_path / "out")}
    command = command_here({"command": job["spec"]["entrypoint"].split()}, {}, replaced)
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 2
    assert "error: --ray" in done.stderr
