"""Datasets: those that come with a library, and the user's own arrays, pictures and tables.

Every one is float32 items in four disjoint splits; what the fields mean stands in `dataset.py`, what a recipe
may ask for in `options.py`.
"""

from training.data.dataset import SPLITS, DataError, Dataset, Items, Labels, Scaling, Split
from training.data.loading import load_dataset

__all__ = ["SPLITS", "DataError", "Dataset", "Items", "Labels", "Scaling", "Split", "load_dataset"]
