"""The command of `train-distributed`, run by two local nodes, trains what one process trains."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.deploy.pods import command_here
from tests.deploy.rendering import DEPLOY, pod_of, rendered, the
from tests.ports import free_port
from tests.training.tiny import digits, require_same_weights, tiny_recipe, tiny_table, write_recipe
from tests.waiting import wait_until
from training.loop.checkpoint import read_checkpoint
from training.loop.loop import train
from training.loop.runs import CHECKPOINTS

pytestmark = pytest.mark.deploy


@contextmanager
def started_nodes(recipe: Path, runs: Path) -> Iterator[list[subprocess.Popen[str]]]:
    """Start the container of each index of the Job, whose rendezvous is on the loopback interface."""
    job = the(rendered(DEPLOY / "overlays/train-distributed"), "Job", "pushforward-distributed")
    (container,) = pod_of(job)["containers"]
    replaced = {
        "pushforward-distributed-0.pushforward-distributed": "127.0.0.1",
        "29500": str(free_port()),
        "/etc/pushforward/recipe.toml": str(recipe),
        "/training/runs": str(runs),
    }
    nodes = [
        subprocess.Popen(
            command_here(container, {"JOB_COMPLETION_INDEX": str(index)}, replaced),
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(job["spec"]["completions"])
    ]
    try:
        yield nodes
    finally:
        for node in nodes:
            if node.poll() is None:
                kill(node)


def kill(node: subprocess.Popen[str]) -> None:
    """Kill a node's agent and its training process, as the death of a pod does."""
    children = Path(f"/proc/{node.pid}/task/{node.pid}/children").read_text().split()
    for process in (node.pid, *map(int, children)):
        os.kill(process, signal.SIGKILL)
    node.communicate(timeout=60)


def require_success(recipe: Path, runs: Path) -> None:
    """Run the nodes to their end."""
    with started_nodes(recipe, runs) as nodes:
        messages = [node.communicate(timeout=100)[1] for node in nodes]
        assert [node.returncode for node in nodes] == [0] * len(nodes), messages


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train `tiny.toml` by two nodes, into `runs` beside it."""
    folder = tmp_path_factory.mktemp("training")
    recipe = write_recipe(folder / "tiny.toml", tiny_table(steps=8))
    require_success(recipe, folder / "runs")
    return folder


def test_two_nodes_train_what_one_process_trains(trained: Path, tmp_path: Path) -> None:
    recipe = tiny_recipe(steps=8)
    train(recipe, digits(recipe), tmp_path)
    together = trained / "runs" / recipe.name / CHECKPOINTS
    require_same_weights(read_checkpoint(tmp_path / CHECKPOINTS), read_checkpoint(together))


@pytest.mark.timeout(300)
def test_nodes_started_again_after_one_died_finish_the_uninterrupted_run(tmp_path: Path) -> None:
    recipe = tiny_recipe(steps=40)
    path = write_recipe(tmp_path / "tiny.toml", tiny_table(steps=40))
    checkpoints = tmp_path / "together" / recipe.name / CHECKPOINTS
    with started_nodes(path, tmp_path / "together") as (first, second):
        wait_until(lambda: list(checkpoints.glob("step-*")) or first.poll() is not None)
        assert first.poll() is None, "it ended before the other could be killed"
        kill(second)
        _, message = first.communicate(timeout=60)
        assert first.returncode != 0  # so the Job starts both again
    assert "--resume" in message
    assert read_checkpoint(checkpoints).step < 40
    require_success(path, tmp_path / "together")
    train(recipe, digits(recipe), tmp_path / "alone")
    require_same_weights(read_checkpoint(tmp_path / "alone" / CHECKPOINTS), read_checkpoint(checkpoints))


@pytest.mark.timeout(300)
def test_the_suspended_job_publishes_what_the_nodes_have_trained(trained: Path, tmp_path: Path) -> None:
    job = the(rendered(DEPLOY / "overlays/train-distributed"), "Job", "pushforward-training")
    assert job["spec"]["suspend"] is True
    (container,) = pod_of(job)["containers"]
    replaced = {
        "/etc/pushforward/recipe.toml": str(trained / "tiny.toml"),
        "/training/runs": str(trained / "runs"),
        "/training/models": str(tmp_path),
    }
    done = subprocess.run(command_here(container, {}, replaced), capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    assert "evaluating tiny-vae after 8 of 8 steps" in done.stderr
    assert (tmp_path / "tiny-vae/1/manifest.json").is_file()
