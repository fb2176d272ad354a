"""Bulk work starts anew for every shard, so it imports nothing that only a service or training needs."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pushforward.local import load
from service.media.tables.writing import columns_of, csv_text
from tests.conftest import REPOSITORY

OTHERS = {"fastapi", "httpx", "onnx", "prometheus_client", "torch", "training", "uvicorn"}
MODELS = REPOSITORY / "models"


def imported(code: str, *arguments: str) -> set[str]:
    """The packages that are imported once some code has run."""
    code += "; print('now', *sys.modules)"
    shown = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=REPOSITORY, capture_output=True, text=True, check=True
    ).stdout
    return {name.partition(".")[0] for name in shown.splitlines()[-1].split()}


def test_bulk_work_imports_nothing_that_only_a_service_or_training_needs() -> None:
    found = imported("import sys, pyarrow.parquet, pushforward.bulk.run")
    assert "pyarrow" in found
    assert not found & (OTHERS | {"pandas", "rich"})


@pytest.mark.parametrize("ending", [".csv", ".parquet", ".npy"])
def test_neither_does_its_work_nor_pandas_though_pyarrow_would(tmp_path: Path, ending: str) -> None:
    with load(MODELS / "breast-cancer-vae") as model:
        rows = model.sample(count=20, seed=1)
        names = {column["name"]: column["categories"] for column in model.manifest()["columns"]}
    source = tmp_path / f"rows{ending}"
    if ending == ".npy":
        np.save(source, rows)
    else:
        source.with_suffix(".csv").write_text(csv_text(columns_of(rows, names)))
    if ending == ".parquet":
        from pyarrow import csv, parquet

        parquet.write_table(csv.read_csv(source.with_suffix(".csv")), source)
    line = ["bulk", "score", "breast-cancer-vae", str(source), "--out", str(tmp_path / "out")]
    found = imported(
        "import sys; from pushforward.command.app import app; app(standalone_mode=False)",
        *(*line, "--local", str(MODELS), "--processes", "1"),
    )
    assert (tmp_path / "out" / "_manifest.json").exists()
    assert "pyarrow" in found
    assert not found & (OTHERS | {"pandas"})
