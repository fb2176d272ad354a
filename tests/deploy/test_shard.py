"""A batch job's shards together are what one request would answer, and a finished one is left alone."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import httpx
import numpy as np
import pytest

from tests.deploy.rendering import DEPLOY, pod_of, rendered, the
from tests.serving import RunningService, npy

pytestmark = pytest.mark.deploy

SCRIPT = DEPLOY / "overlays/batch-job/shard.py"


def drawn(
    service: RunningService, folder: Path, index: int, **changes: str
) -> subprocess.CompletedProcess[str]:
    """Runs the shard of an index as its pod would."""
    environment = {
        "JOB_COMPLETION_INDEX": str(index),
        "SHARDS": "3",
        "COUNT": "1000",
        "MODEL": "toy-vae/versions/1",
        "SEED": "7",
        "FOLDER": str(folder),
        "SERVICE": service.url,
    }
    command = [sys.executable, str(SCRIPT)]
    return subprocess.run(command, env=os.environ | environment | changes, capture_output=True, text=True)


def test_shards_together_are_one_request_bit_for_bit(
    service: RunningService, client: httpx.Client, tmp_path: Path
) -> None:
    for index in range(3):
        done = drawn(service, tmp_path, index)
        assert done.returncode == 0, done.stderr
    query = "/v1/models/toy-vae/sample?count=1000&seed=7"
    whole = npy(client.get(query, headers={"accept": "application/x-npy"}))
    shards = [np.load(io.BytesIO(path.read_bytes())) for path in sorted(tmp_path.iterdir())]
    assert len(shards) == 3
    np.testing.assert_array_equal(np.concatenate(shards), whole)


def test_a_finished_shard_is_left_alone(service: RunningService, tmp_path: Path) -> None:
    (tmp_path / "00001.npy").write_bytes(b"finished")
    assert drawn(service, tmp_path, 1).returncode == 0
    assert (tmp_path / "00001.npy").read_bytes() == b"finished"


def test_a_request_that_will_never_fit_exits_2_and_leaves_nothing(
    service: RunningService, tmp_path: Path
) -> None:
    done = drawn(service, tmp_path, 0, MODEL="no-such-model")
    assert done.returncode == 2
    assert "unknown_model" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_job_names_a_version_that_is_published_and_its_sidecar_outlives_the_shard() -> None:
    pod = pod_of(the(rendered(DEPLOY / "overlays/batch-job"), "Job", "pushforward-samples"))
    (model,) = [entry["value"] for entry in pod["containers"][0]["env"] if entry["name"] == "MODEL"]
    name, _, version = model.split("/")
    assert (DEPLOY.parent / "models" / name / version / "manifest.json").is_file()
    assert pod["initContainers"][0]["restartPolicy"] == "Always"
