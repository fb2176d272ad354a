"""Other detectors with their default settings: scikit-learn's isolation forest and PyOD's VAE.

Shapes: N rows of F features.
"""

from __future__ import annotations

import csv
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import numpy as np

from service.numerics.noise import Doubles
from training.data import Dataset, Items


@dataclass(frozen=True)
class Peer:
    """A detector of another library."""

    name: str
    library: str
    """Its name in package registries."""
    fit: Callable[[Items, int], Callable[[Items], Doubles]]
    """Fits normal rows (N, F) with a seed, and returns a function of rows (N, F) to surprises (N,)."""


class PeerSurprises(NamedTuple):
    """A detector's surprises at held-out rows."""

    normal: Doubles
    outliers: Doubles
    version: str


def peer_surprises(peer: Peer, dataset: Dataset, seed: int) -> PeerSurprises:
    """Fit a detector to the normal rows of a VAE's training and validation, and score the others."""
    assert dataset.outliers is not None
    learned = np.concatenate([dataset.items["train"], dataset.items["validation"]])
    surprise = peer.fit(learned, seed)
    return PeerSurprises(surprise(dataset.items["test"]), surprise(dataset.outliers), version(peer.library))


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


def _isolation_forest(rows: Items, seed: int) -> Callable[[Items], Doubles]:
    from sklearn.ensemble import IsolationForest

    forest = IsolationForest(random_state=seed).fit(rows)
    return lambda items: np.asarray(-forest.score_samples(items), dtype=np.float64)


def _pyod_vae(rows: Items, seed: int) -> Callable[[Items], Doubles]:
    detector = importlib.import_module("pyod.models.vae").VAE(random_state=seed, verbose=0)
    detector.fit(rows)
    return lambda items: np.asarray(detector.decision_function(items), dtype=np.float64)


PEERS = (
    Peer("IsolationForest", "scikit-learn", _isolation_forest),
    Peer("PyOD's VAE", "pyod", _pyod_vae),
)
