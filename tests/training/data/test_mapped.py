"""Tables larger than memory: copied once, mapped, split and ordered by computed chance."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

from training.data import SPLITS, Dataset, load_dataset
from training.data.options import DataOptions
from training.loop.order import scattered

ROWS = 60_000
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
    assert held.columns == mapped.columns
    assert held.class_names == mapped.class_names == ("true",)
    assert mapped.scaling is not None
    train = mapped.items["train"].astype(np.float64)[:, :4]
    np.testing.assert_allclose(mapped.scaling.shift[:4], np.nanmean(train, axis=0), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(mapped.scaling.scale[:4], np.nanstd(train, axis=0), rtol=1e-5)
    assert held.scaling is not None
    assert held.scaling.masked == mapped.scaling.masked
    shares = [len(mapped.items[split]) / (0.9 * ROWS) for split in SPLITS]
    assert shares == pytest.approx([0.5, 0.1, 0.2, 0.2], abs=0.02)


def test_a_table_is_copied_once_and_alike(path: Path, tmp_path: Path) -> None:
    first = load(path, tmp_path, memory_mib=1)
    (folder,) = tmp_path.iterdir()
    before = folder.stat().st_mtime_ns
    again = load(path, tmp_path, memory_mib=1)
    assert [folder] == [*tmp_path.iterdir()]
    assert folder.stat().st_mtime_ns == before
    assert first.fingerprint == again.fingerprint
    assert load(path, tmp_path, memory_mib=1, split_seed=1).fingerprint != first.fingerprint


@pytest.mark.parametrize("length", [1, 2, 3, 4, 5, 17, 1000, 4097])
def test_every_place_of_a_computed_order_is_another_row(length: int) -> None:
    order = scattered(np.arange(length), length, KEYS)
    assert sorted(order.tolist()) == [*range(length)]
    if length > 100:
        assert abs(np.corrcoef(order, np.arange(length))[0, 1]) < 4 / np.sqrt(length)
        assert (order != scattered(np.arange(length), length, KEYS[::-1])).mean() > 0.9
