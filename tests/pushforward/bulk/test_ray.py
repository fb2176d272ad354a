"""Ray Data makes the same bytes as one process does, also if an actor is killed in the middle."""

from __future__ import annotations

import os
import secrets
import signal
from pathlib import Path

import numpy as np
import pytest

from tests.pushforward.bulk.work import command, hashes, parts, started, work
from tests.waiting import wait_until

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]

MARK = "PUSHFORWARD_TEST_OF_RAY"


def _actors(mark: str) -> list[int]:
    """Return the process ids of the actors that inherited this environment."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            environment = (process / "environ").read_bytes().split(b"\0")
            line = (process / "cmdline").read_bytes()
        except OSError:
            continue
        if f"{MARK}={mark}".encode() in environment and b"PartActor" in line:
            found.append(int(process.name))
    return found


def test_ray_makes_the_same_bytes(bulk_models: Path, digits: Path, tmp_path: Path) -> None:
    options = ["score", "digits-vae", digits, "--statistic", "path", "--part-rows", 100]
    options += ["--local", bulk_models, "--ray", "local", "--processes", 2]
    done = command(*options, "--out", tmp_path / "ray")
    assert done.returncode == 0, done.stderr
    assert "10 parts: 10 parts made, complete" in done.stdout
    assert len(done.stdout.splitlines()) == 1
    scored = {"input": str(digits), "options": {"statistic": "path"}, "part_rows": 100}
    work("score", bulk_models, "digits-vae", tmp_path / "plain", **scored)
    assert hashes(tmp_path / "ray") == hashes(tmp_path / "plain")


def test_an_actor_killed_in_the_middle_loses_and_repeats_no_row(bulk_models: Path, tmp_path: Path) -> None:
    out, mark = tmp_path / "ray", secrets.token_hex(8)
    line = ["sample", "digits-vae", "--count", 60_000, "--part-rows", 500, "--local", bulk_models]
    process = started(*line, "--out", out, "--ray", "local", "--processes", 2, **{MARK: mark})
    try:
        wait_until(lambda: len(parts(out)) > 3)
        os.kill(_actors(mark)[0], signal.SIGKILL)
        made = len(parts(out))
        shown, errors = process.communicate(timeout=200)
    finally:
        process.kill()
    assert process.returncode == 0, errors
    assert made < 120, "it was killed too late to matter"
    assert "120 parts: 120 parts made, complete" in shown
    work("sample", bulk_models, "digits-vae", tmp_path / "plain", count=60_000, part_rows=500)
    assert hashes(out) == hashes(tmp_path / "plain")


def test_a_mistake_and_rows_that_do_not_fit_are_told_by_ray_as_without_it(
    bulk_models: Path, tmp_path: Path
) -> None:
    items = np.zeros((40, 1, 8, 8), np.float32)
    items[25] = np.nan
    np.save(tmp_path / "x.npy", items)
    line = ["score", "digits-vae", tmp_path / "x.npy", "--part-rows", 10, "--local", bulk_models]
    for options, said in (
        (("--alpha", "1e-9"), "the smallest this model is calibrated for"),
        ((), "rows 25"),
    ):
        out = tmp_path / f"out{len(options)}"
        done = command(*line, *options, "--out", out, "--ray", "local", "--processes", 1)
        assert done.returncode == 2, done.stderr
        assert said in done.stderr
        assert "Traceback" not in done.stderr
    assert len(parts(tmp_path / "out0")) == 3


def test_a_cluster_that_is_not_there_is_a_mistake(bulk_models: Path, tmp_path: Path) -> None:
    line = ["sample", "digits-vae", "--count", 1, "--local", bulk_models, "--out", tmp_path / "out"]
    for address in ("127.0.0.1:1", "auto"):
        done = command(*line, "--ray", address)
        assert done.returncode == 2, done.stderr
        assert "start a cluster by `ray start --head`" in done.stderr
