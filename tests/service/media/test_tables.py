"""Rows of tables, written as CSV and read again."""

import io

import numpy as np

from service.media.tables.matching import TableForm, features_of
from service.media.tables.sources import table_of
from service.media.tables.writing import columns_of, csv_text

FORM = TableForm({"height": (), "colour": ("red", "green"), "weight": ()})


def test_rows_that_lack_values_read_the_same_again() -> None:
    items = np.array([[1.5, 0, 1, np.nan], [np.nan, np.nan, np.nan, -0.1], [3e-7, 1, 0, 2]], np.float32)
    text = csv_text(columns_of(items, FORM.columns)).encode()
    blocks = [dict(block) for block in table_of(lambda: io.BytesIO(text), ".csv").blocks(100)]
    np.testing.assert_array_equal(features_of(blocks[0], FORM), items)
