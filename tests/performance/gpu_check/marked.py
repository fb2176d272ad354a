"""The tests that are marked gpu; on the CPU they are only collected."""

from __future__ import annotations

import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from typing import Final

from .check import Check, CheckFailed, Row
from .preparation import REPOSITORY

_MARK: Final = "mark.gpu"
_NO_TESTS: Final = 5
"""The status of pytest where nothing is collected."""


def rows(check: Check) -> Iterator[Row]:
    """A row for each test. Only files that hold the mark are collected, since others need other packages.

    Raises:
        CheckFailed: there is no such test, one failed, or they could not be collected.
    """
    files = [path for path in sorted((REPOSITORY / "tests").rglob("test_*.py")) if _MARK in path.read_text()]
    report = check.folder / "tests.xml"
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"]
    command += ["-W", "default"]  # warnings of other versions of packages do not matter here
    if check.device == "cpu":
        command.append("--collect-only")
    else:
        command.append(f"--junitxml={report}")
    told = subprocess.run(
        [*command, *map(str, files)], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    sys.stderr.write(told.stdout + told.stderr)
    if check.device == "cpu":
        for line in told.stdout.splitlines():
            if "::" in line:
                yield {"test": line, "outcome": "collected, not run: it needs a GPU"}
    else:
        yield from _outcomes(report.read_text(encoding="utf-8")) if report.exists() else ()
    if told.returncode == _NO_TESTS:
        raise CheckFailed("no test is marked gpu")
    if told.returncode != 0:
        raise CheckFailed(f"pytest ended with status {told.returncode}")


def _outcomes(report: str) -> Iterator[Row]:
    for case in ElementTree.fromstring(report).iter("testcase"):
        flaws = [child.tag for child in case if child.tag in ("failure", "error", "skipped")]
        name = f"{case.get('classname')}::{case.get('name')}"
        yield {
            "test": name,
            "outcome": flaws[0] if flaws else "passed",
            "seconds": float(case.get("time") or 0),
        }
