"""Loads the dataset that a recipe's [data] table names."""

from __future__ import annotations

from pathlib import Path

from training.data.arrays import load_arrays
from training.data.cache import default_cache
from training.data.dataset import Dataset
from training.data.digits import load_digits
from training.data.fashion import load_fashion
from training.data.folder import load_folder
from training.data.options import DataOptions
from training.data.points import load_points
from training.data.table import load_table


def load_dataset(options: DataOptions, cache: Path | None = None) -> Dataset:
    """Load and split a dataset; equal options and files give equal arrays.

    Downloads, and copies of data larger than memory, are kept in `cache`, by default a folder of their own
    in `~/.cache/pushforward`.

    Raises:
        DataError: The data is missing or unfit; the message names the file.
    """
    match options.dataset:
        case "digits":
            return load_digits(options)
        case "fashion-mnist":
            return load_fashion(options, cache or default_cache("fashion-mnist"))
        case "ring" | "grid":
            return load_points(options)
        case "arrays":
            return load_arrays(options, cache or default_cache("pictures"))
        case "images":
            return load_folder(options, cache or default_cache("pictures"))
        case "table":
            return load_table(options, cache or default_cache("tables"))
