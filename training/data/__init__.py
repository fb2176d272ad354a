"""Datasets: the digits, Fashion-MNIST, points in the plane, and the user's arrays, pictures and tables.

Every dataset is float32 items in four disjoint splits.
"""

from training.data.dataset import SPLITS, DataError, Dataset, Items, Labels, Scaling, Split
from training.data.loading import load_dataset

__all__ = ["SPLITS", "DataError", "Dataset", "Items", "Labels", "Scaling", "Split", "load_dataset"]
