"""Scikit-learn's handwritten digits."""

from __future__ import annotations

import numpy as np

from training.data.dataset import Dataset, Items
from training.data.options import DataOptions
from training.data.pictures import kept_classes, picture_dataset
from training.data.splits import Classes, Partition, keep_classes

SOURCE = "scikit-learn's handwritten digits (UCI Optical Recognition of Handwritten Digits), 8x8 pixels"
_TEST_ROWS = 258
_VALIDATION_ROWS = _CALIBRATION_ROWS = 128


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
    rest, test = order[:-_TEST_ROWS], order[-_TEST_ROWS:]
    validation, calibration, train = np.split(rest, [_VALIDATION_ROWS, _VALIDATION_ROWS + _CALIBRATION_ROWS])
    classes = Classes(tuple(str(digit) for digit in range(10)), bunch.target.astype(np.int64))
    whole = Partition(
        {"validation": validation, "calibration": calibration, "train": train, "test": test}, classes=classes
    )
    rows = keep_classes(whole, options.keep, "digits")
    return picture_dataset("digits", SOURCE + kept_classes(options.keep), images, rows, options)
