"""The memory of bulk work does not grow with its size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.conftest import REPOSITORY
from tests.pushforward.bulk.work import descendants, started

pytestmark = pytest.mark.bulk

MEGABYTE = 2**20


def peak_megabytes(*arguments: object) -> float:
    """Runs the command, and returns the sum of the most memory that it and each process of its had resident.

    Memory that they share is counted for each of them.
    """
    process = started(*arguments)
    peaks: dict[int, int] = {}
    while process.poll() is None:
        try:
            for pid in [process.pid, *descendants(process.pid)]:
                status = Path(f"/proc/{pid}/status").read_text()
                line = next((line for line in status.splitlines() if line.startswith("VmHWM")), None)
                if line is not None:
                    peaks[pid] = int(line.split()[1]) * 1024
        except OSError:
            pass  # it has just ended
        try:
            process.wait(0.05)
        except Exception:  # it runs on
            continue
    shown, errors = process.communicate()
    assert process.returncode == 0, errors
    assert "complete" in shown
    return sum(peaks.values()) / MEGABYTE


@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", ["npy", "csv", "sample"])
def test_ten_times_the_rows_take_no_more_memory(tmp_path: Path, kind: str) -> None:
    random = np.random.default_rng(0)
    peaks = []
    for rows in (60_000, 600_000):
        out = tmp_path / f"{kind}-{rows}"
        line: list[object] = ["--out", out, "--local", REPOSITORY / "models", "--processes", 1]
        if kind == "npy":
            np.save(tmp_path / "x.npy", random.random((rows, 1, 8, 8), np.float32))
            line = ["score", "digits-vae", tmp_path / "x.npy", "--statistic", "path", *line]
        elif kind == "csv":
            points = random.random((rows, 10), np.float32)
            header = ",".join(f"z{index}" for index in range(10))
            np.savetxt(tmp_path / "x.csv", points, "%.4f", ",", header=header, comments="")
            line = ["decode", "digits-vae", tmp_path / "x.csv", *line]
        else:
            line = ["sample", "digits-vae", "--count", rows, *line]
        peaks.append(peak_megabytes(*line))
    print(f"{kind}: {peaks[0]:.0f} and {peaks[1]:.0f} MB")  # noqa: T201
    assert peaks[1] < peaks[0] + 16


@pytest.mark.timeout(1_800)
def test_a_million_samples_need_no_more_than_600_megabytes(tmp_path: Path) -> None:
    line = ["sample", "digits-vae", "--count", 1_000_000, "--out", tmp_path / "out"]
    peak = peak_megabytes(*line, "--local", REPOSITORY / "models", "--processes", 2)
    print(f"a million samples: {peak:.0f} MB")  # noqa: T201
    assert peak < 600
