"""Laws of running graphs on all cores: results are in order, and those of one call."""

from collections.abc import Sequence

import numpy as np
import pytest

from training.anomaly.running import batches_of, on_all_cores


@pytest.mark.parametrize("draws", [1, 16])
def test_batches_are_all_rows_in_order_and_of_few_values_each(draws: int) -> None:
    items = np.arange(250 * 3 * 64 * 64, dtype=np.float32).reshape(250, 3, 64, 64)
    labels = np.eye(2, dtype=np.float32)[np.arange(250) % 2]
    batches = list(batches_of(items, labels, draws))
    np.testing.assert_array_equal(np.concatenate([rows for rows, _ in batches]), items)
    np.testing.assert_array_equal(np.concatenate([classes for _, classes in batches]), labels)
    assert max(rows.size * draws for rows, _ in batches) <= 2**20


def test_an_item_of_more_values_than_a_batch_may_have_is_a_batch() -> None:
    items = np.zeros((2, 3, 1024, 1024), np.float32)
    assert [len(rows) for (rows,) in batches_of(items, None)] == [1, 1]


def test_results_are_in_the_order_of_the_batches() -> None:
    items = np.arange(5000, dtype=np.float32)
    results = on_all_cores(lambda batch: float(batch[0].sum()), batches_of(items, None))
    assert results == [float(items[first : first + 100].sum()) for first in range(0, 5000, 100)]


def test_an_error_of_one_batch_is_raised() -> None:
    def compute(batch: Sequence[np.ndarray]) -> None:
        if batch[0][0] == 300:
            raise ValueError("not finite")

    with pytest.raises(ValueError, match="not finite"):
        on_all_cores(compute, batches_of(np.arange(1000, dtype=np.float32), None))
