"""Bulk work starts anew for every shard, so it imports nothing that only a service or training needs."""

import subprocess
import sys

from tests.conftest import REPOSITORY

OTHERS = {"fastapi", "httpx", "onnx", "pandas", "prometheus_client", "rich", "torch", "training", "uvicorn"}


def test_bulk_work_imports_nothing_that_only_a_service_or_training_needs() -> None:
    code = "import sys, pyarrow.parquet, pushforward.bulk.run; print(*sys.modules)"
    shown = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True
    ).stdout
    assert not {name.partition(".")[0] for name in shown.split()} & OTHERS
