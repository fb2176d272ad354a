"""Several processes on one machine, by gloo, started as `torchrun` starts them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.ports import free_port
from tests.training.tiny import digits, require_same_weights, tiny_recipe, tiny_table, write_recipe
from tests.waiting import wait_until
from training.loop.checkpoint import read_checkpoint
from training.loop.distributed import ProcessGroup, ProcessGroupError
from training.loop.loop import train
from training.loop.noise import Noise
from training.loop.runs import CHECKPOINTS
from training.recipe import parse_recipe

STARTING_SECONDS = 240.0

takes_long = pytest.mark.slow


def torchrun(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command += ["-m", "training", *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=110)


def start_ranks(*arguments: str | Path) -> list[subprocess.Popen[str]]:
    """Two processes that train together, without the agent that ends one when the other has ended."""
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    shared = address | {"WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "training", *map(str, arguments)]
    return [
        subprocess.Popen(
            command,
            env=os.environ | shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]


@takes_long
@pytest.mark.parametrize(
    ("family", "conditional"), [("vae", False), ("gan", False), ("vae", True), ("gan", True)]
)
def test_two_processes_train_what_one_trains_on_the_same_batches(
    tmp_path: Path, family: str, conditional: bool
) -> None:
    table = tiny_table(family, steps=8)
    table[family] |= {"conditional": True} if conditional else {}
    recipe = parse_recipe(table)
    alone, together = tmp_path / "alone" / recipe.name, tmp_path / "together" / recipe.name
    train(recipe, digits(recipe), alone)
    path = write_recipe(tmp_path / "tiny.toml", table)
    done = torchrun("train", path, "--runs", together.parent, "--quiet")
    assert done.returncode == 0, done.stderr
    require_same_weights(read_checkpoint(alone / CHECKPOINTS), read_checkpoint(together / CHECKPOINTS))
    journals = [(folder / "metrics.jsonl").read_text().splitlines() for folder in (alone, together)]
    for line, other in zip(*journals, strict=True):
        ours, theirs = json.loads(line), json.loads(other)
        assert ours.keys() == theirs.keys()
        for name in ours.keys() - {"items_per_second"}:
            assert ours[name] == pytest.approx(theirs[name], rel=1e-2, abs=1e-2), name


@takes_long
@pytest.mark.timeout(600)
def test_a_killed_process_ends_the_other_and_the_resumed_run_is_the_uninterrupted_one(tmp_path: Path) -> None:
    recipe = tiny_recipe(steps=40)
    path = write_recipe(tmp_path / "tiny.toml", tiny_table(steps=40))
    checkpoints = tmp_path / recipe.name / CHECKPOINTS
    first, second = start_ranks("train", path, "--runs", tmp_path, "--quiet")
    with first, second:
        wait_until(
            lambda: list(checkpoints.glob("step-*")) or first.poll() is not None, seconds=STARTING_SECONDS
        )
        assert first.poll() is None, "it ended before the other could be killed"
        second.kill()
        _, message = first.communicate(timeout=60)
    assert first.returncode == 1
    assert "error: process 0 of 2 stopped" in message
    assert "--resume" in message
    assert read_checkpoint(checkpoints).step < 40
    resumed = torchrun("train", path, "--runs", tmp_path, "--quiet", "--resume")
    assert resumed.returncode == 0, resumed.stderr
    train(recipe, digits(recipe), tmp_path / "alone")
    require_same_weights(read_checkpoint(tmp_path / "alone" / CHECKPOINTS), read_checkpoint(checkpoints))


def test_a_batch_that_cannot_be_shared_equally_is_refused(tmp_path: Path) -> None:
    recipe = tiny_recipe(batch_rows=301)
    with pytest.raises(ProcessGroupError, match="301 rows cannot be shared equally by 2 processes"):
        train(recipe, digits(recipe), tmp_path, group=ProcessGroup(0, 2))


def test_the_processes_together_see_the_noise_of_one() -> None:
    def noise(group: ProcessGroup) -> torch.Tensor:
        drawn = Noise(7, Noise.TRAINING, 3, group)
        rows = 6 // group.size
        return torch.cat([drawn.normal(rows, 2, 5).flatten(1), drawn.uniform(rows, 4)], 1)

    assert torch.equal(torch.cat([noise(ProcessGroup(rank, 3)) for rank in range(3)]), noise(ProcessGroup()))
