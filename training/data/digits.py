"""Scikit-learn's handwritten digits."""

from __future__ import annotations

import numpy as np

from training.data.dataset import Dataset, Items
from training.data.options import DataOptions
from training.data.pictures import picture_dataset
from training.data.splits import Classes, published_partition

SOURCE = "scikit-learn's handwritten digits (UCI Optical Recognition of Handwritten Digits), 8x8 pixels"
_TEST_ROWS = 258


def load_digits(options: DataOptions) -> Dataset:
    """Load the 1 797 digits, (1, 8, 8): 1 283 train, 128 validation, 128 calibration and 258 test items.

    If only some classes are kept, the test items of the others are the outliers.

    Raises:
        DataError: A class to keep does not exist.
    """
    from sklearn import datasets  # takes a second to import

    bunch = datasets.load_digits()
    images: Items = (bunch.images[:, None] / 16.0).astype(np.float32)
    order = np.random.default_rng(options.split_seed).permutation(len(images))
    classes = Classes(tuple(map(str, range(10))), bunch.target.astype(np.int64))
    rows = published_partition(order[:-_TEST_ROWS], order[-_TEST_ROWS:], 128, classes, options.keep, "digits")
    return picture_dataset("digits", SOURCE, images, rows, options)
