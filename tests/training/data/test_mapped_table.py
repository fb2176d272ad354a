"""Tables larger than memory: copied once, mapped, split and ordered by computed chance."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

import training.data.mapped_table
from tests.conftest import REPOSITORY
from tests.training.peak import peak_resident_bytes
from training.data import SPLITS, Dataset, load_dataset
from training.data.options import DataOptions
from training.loop.order import scattered

ROWS = 60_000
WIDE = 40
KEYS = np.random.default_rng(0).integers(0, 2**31, 6).tolist()


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    random = np.random.default_rng(3)
    table: dict[str, Any] = {f"c{place}": random.normal(10 * place, 1 + place, ROWS) for place in range(4)}
    table["c3"][::7] = np.nan
    table["kind"] = np.array(["a", "b", "c"])[random.integers(0, 3, ROWS)]
    table["ok"] = random.random(ROWS) < 0.9
    path = tmp_path_factory.mktemp("large") / "large.parquet"
    parquet.write_table(pyarrow.table(table), path, row_group_size=9000)
    return path


def load(path: Path, folder: Path, **options: Any) -> Dataset:
    given = {
        "dataset": "table",
        "path": path,
        "one_hot": ["kind"],
        "label": "ok",
        "keep": ["true"],
        **options,
    }
    return load_dataset(DataOptions.model_validate(given), folder)


def all_rows(dataset: Dataset) -> np.ndarray:
    assert dataset.outliers is not None
    rows = np.concatenate([*(dataset.items[split] for split in SPLITS), dataset.outliers])
    return rows[np.lexsort(np.nan_to_num(rows).T)]


def test_a_mapped_table_holds_the_same_rows_classes_and_scaling(path: Path, tmp_path: Path) -> None:
    held, mapped = load(path, tmp_path), load(path, tmp_path, memory_mib=1)
    assert isinstance(mapped.items["train"], np.memmap)
    np.testing.assert_array_equal(all_rows(held), all_rows(mapped))
    assert [column.name for column in held.columns] == [column.name for column in mapped.columns]
    assert [column.decimals for column in held.columns] == [column.decimals for column in mapped.columns]
    assert held.class_names == mapped.class_names == ("true",)
    assert mapped.scaling is not None
    train = mapped.items["train"].astype(np.float64)[:, :4]
    ranges = np.array([column.value_range for column in mapped.columns[:4]], np.float64)
    np.testing.assert_allclose(ranges.T, [np.nanmin(train, 0), np.nanmax(train, 0)], rtol=1e-6)
    np.testing.assert_allclose(mapped.scaling.shift[:4], np.nanmean(train, axis=0), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(mapped.scaling.scale[:4], np.nanstd(train, axis=0), rtol=1e-5)
    assert held.scaling is not None
    assert held.scaling.masked == mapped.scaling.masked
    assert held.scaling.absent == mapped.scaling.absent == (7,)
    shares = [len(mapped.items[split]) / (0.9 * ROWS) for split in SPLITS]
    assert shares == pytest.approx([0.5, 0.1, 0.2, 0.2], abs=0.02)


def test_a_table_is_copied_once_and_alike(path: Path, tmp_path: Path) -> None:
    first = load(path, tmp_path, memory_mib=1)
    (folder,) = tmp_path.iterdir()
    before = (folder / "train.f4").stat().st_mtime_ns
    again = load(path, tmp_path, memory_mib=1)
    assert [folder] == [*tmp_path.iterdir()]
    assert (folder / "train.f4").stat().st_mtime_ns == before
    assert first.fingerprint == again.fingerprint
    assert load(path, tmp_path, memory_mib=1, split_seed=1).fingerprint != first.fingerprint


def test_of_each_held_out_part_a_bounded_number_of_rows_is_drawn_from_all_of_it(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = load(path, tmp_path, memory_mib=1)
    monkeypatch.setattr(training.data.mapped_table, "MOST_HELD_OUT_ROWS", 5000)
    drawn = load(path, tmp_path, memory_mib=1)
    np.testing.assert_array_equal(drawn.items["train"], whole.items["train"])
    for split in ("validation", "calibration", "test"):
        known = {row.tobytes(): place for place, row in enumerate(whole.items[split])}
        places = np.array([known[row.tobytes()] for row in drawn.items[split]])
        assert len(places) == len(drawn.labels[split]) == 5000
        assert (np.diff(places) > 0).all()
        assert places.mean() == pytest.approx(len(known) / 2, rel=0.05)
    assert drawn.outliers is not None
    assert len(drawn.outliers) == 5000
    assert any("5000 each are used" in note for note in drawn.notes)


def peak_of_a_run(folder: Path, rows: int) -> int:
    """The most memory that a whole run on a wide table has resident, from the recipe that `init` writes."""
    folder.mkdir()
    random = np.random.default_rng(0)
    mixing = random.normal(size=(4, WIDE)).astype(np.float32)
    schema = pyarrow.schema([(f"c{place}", pyarrow.float32()) for place in range(WIDE)])
    with parquet.ParquetWriter(folder / "wide.parquet", schema) as writer:
        for _ in range(0, rows, 50_000):
            block = random.normal(size=(50_000, 4)).astype(np.float32) @ mixing
            block += random.normal(size=block.shape).astype(np.float32)
            writer.write_table(pyarrow.table(list(block.T), schema=schema), row_group_size=10_000)
    started: Any = {"cwd": folder, "env": {**os.environ, "HOME": str(folder), "PYTHONPATH": str(REPOSITORY)}}
    init = [sys.executable, "-m", "pushforward", "init", "wide.parquet"]
    subprocess.run(init, check=True, stdout=subprocess.DEVNULL, **started)
    shorter = ("--set", "data.memory_mib=1", "--set", "loop.steps=50", "--set", "loop.validate_every=50")
    run = [sys.executable, "-m", "training", "run", "wide.toml", "--models", "models", "--quiet", *shorter]
    return peak_resident_bytes(run, folder, started["env"])


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_run_holds_no_more_for_ten_times_the_rows(tmp_path: Path) -> None:
    fewer, more = (peak_of_a_run(tmp_path / str(rows), rows) for rows in (100_000, 1_000_000))
    added = 900_000 * WIDE * 4
    assert more - fewer < added / 2


@pytest.mark.parametrize("length", [1, 2, 3, 4, 5, 17, 1000, 4097])
def test_every_place_of_a_computed_order_is_another_row(length: int) -> None:
    order = scattered(np.arange(length), length, KEYS)
    assert sorted(order.tolist()) == [*range(length)]
    if length > 100:
        assert abs(np.corrcoef(order, np.arange(length))[0, 1]) < 4 / np.sqrt(length)
        assert (order != scattered(np.arange(length), length, KEYS[::-1])).mean() > 0.9
