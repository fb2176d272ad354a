"""Small files such as a user might bring, and what tests of them share."""

import csv
import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from training.data import SPLITS, DataError, Dataset, load_dataset
from training.data.options import DataOptions

Pixels = npt.NDArray[np.uint8]
ROWS = 60


def load(dataset: str, path: Path, **options: Any) -> Dataset:
    return load_dataset(DataOptions.model_validate({"dataset": dataset, "path": str(path), **options}))


def refusal(dataset: str, path: Path, **options: Any) -> str:
    with pytest.raises(DataError) as caught:
        load(dataset, path, **options)
    assert str(path) in str(caught.value) or path.name in str(caught.value)
    return str(caught.value)


def random_pixels(*shape: int) -> Pixels:
    return np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)


def write_pictures(folder: Path, pixels: Pixels, suffix: str = "png") -> Path:
    """Pictures (N, H, W) or (N, H, W, 3) as 000.png, 001.png, ..."""
    folder.mkdir(parents=True)
    for number, picture in enumerate(pixels):
        Image.fromarray(picture).save(folder / f"{number:03}.{suffix}")
    return folder


def write_csv(path: Path, table: Mapping[str, list[Any]], delimiter: str = ",") -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerow(table)
        writer.writerows(zip(*table.values(), strict=True))
    return path


def a_table() -> dict[str, list[Any]]:
    """60 rows: an id, two numbers, a boolean, a colour, and a class, two thirds of them `good`."""
    random = np.random.default_rng(2)
    return {
        "id": list(range(ROWS)),
        "length": random.normal(1000, 5, ROWS).tolist(),
        "colour": [["red", "blue", "green"][number % 3] for number in range(ROWS)],
        "count": random.integers(0, 9, ROWS).tolist(),
        "old": [bool(number % 2) for number in range(ROWS)],
        "kind": ["bad" if number % 3 == 0 else "good" for number in range(ROWS)],
    }


ALL = {"drop": ["id"], "one_hot": ["colour"], "label": "kind", "unseen": "refuse"}
"""The options that make a dataset of `a_table`, with its own categories alone."""


def stacked(dataset: Dataset) -> npt.NDArray[np.float32]:
    """The rows of all splits."""
    return np.concatenate([dataset.items[split] for split in SPLITS])


def same(one: Dataset, other: Dataset) -> bool:
    return all(
        np.array_equal(one.items[split], other.items[split])
        and np.array_equal(one.labels[split], other.labels[split])
        for split in SPLITS
    )


def zipped(*names: str) -> bytes:
    """A zip with files of those names."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in names:
            archive.writestr(name, b"x")
    return file.getvalue()
