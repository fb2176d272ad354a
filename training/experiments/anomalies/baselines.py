"""Other detectors with their default settings: scikit-learn's isolation forest and PyOD's VAE.

Shapes: N rows of F features.
"""

from __future__ import annotations

import csv
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from service.numerics.noise import Doubles
from training.anomaly.auroc import auroc
from training.data import Dataset, Items

Fit = Callable[[Items, int], Callable[[Items], Doubles]]
"""Fits normal rows (N, F) with a seed, and returns a function of rows (N, F) to surprises (N,)."""


@dataclass(frozen=True)
class Peer:
    """A detector of another library."""

    name: str
    library: str
    """Its name in package registries."""
    fit: Fit


def peer_auroc(peer: Peer, dataset: Dataset, seed: int) -> float:
    """Fit a detector to the normal rows of a VAE's training and validation, and return its AUROC.

    It is measured on the test rows and on the outliers.
    """
    assert dataset.outliers is not None
    learned = np.concatenate([dataset.items["train"], dataset.items["validation"]])
    surprise = peer.fit(learned, seed)
    return float(auroc(surprise(dataset.outliers), surprise(dataset.items["test"])))


def write_tumours(folder: Path) -> Path:
    """Write scikit-learn's breast-cancer table as `breast-cancer.csv` into a folder; return its path."""
    from sklearn.datasets import load_breast_cancer

    cancer = load_breast_cancer()
    path = folder / "breast-cancer.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([*cancer.feature_names, "diagnosis"])
        for row, kind in zip(cancer.data, cancer.target_names[cancer.target], strict=True):
            writer.writerow([*row, kind])
    return path


def isolation_forest(rows: Items, seed: int) -> Callable[[Items], Doubles]:
    """Fit scikit-learn's isolation forest, see `Fit`."""
    from sklearn.ensemble import IsolationForest

    forest = IsolationForest(random_state=seed).fit(rows)
    return lambda items: np.asarray(-forest.score_samples(items), dtype=np.float64)


def pyod_vae(rows: Items, seed: int) -> Callable[[Items], Doubles]:
    """Fit PyOD's VAE, see `Fit`."""
    detector = importlib.import_module("pyod.models.vae").VAE(random_state=seed, verbose=0)
    detector.fit(rows)
    return lambda items: np.asarray(detector.decision_function(items), dtype=np.float64)


PEERS = (Peer("IsolationForest", "scikit-learn", isolation_forest), Peer("PyOD's VAE", "pyod", pyod_vae))
