"""Detectors of anomalous rows: this project's by a drafted recipe, and others as they come.

Shapes: N rows of F features.
"""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.neighbors import LocalOutlierFactor, NearestNeighbors
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import OneClassSVM

from service.numerics.noise import Doubles
from training.anomaly.calibrate import bound_scorer
from training.anomaly.kernel import fit_kernel_density
from training.data import Dataset, Items, load_dataset
from training.data.draft import write_recipe
from training.experiments.anomalies.baselines import Fit, isolation_forest, pyod_vae
from training.loop.loop import train
from training.loop.runs import restore_published
from training.models.vae import Vae, score_terms
from training.recipe import Recipe, read_recipe

Detector = Callable[[Items, Items, int], Doubles]
"""Learns rows (N, F) with a seed, and returns the surprises (M,) of rows (M, F)."""
_BATCH = 500


def _drafted(learned: Items, folder: Path, seed: int) -> tuple[Recipe, Dataset]:
    """Return the recipe that `pushforward init` writes for the rows, with that seed, and its dataset."""
    path = folder / "rows.npy"
    np.save(path, learned)
    written, _ = write_recipe(path, folder / "rows.toml")
    recipe = read_recipe(written, [f"seed={seed}", f"data.split_seed={seed}"])
    return recipe, load_dataset(recipe.data)


def kernel_density(learned: Items, scored: Items, seed: int) -> Doubles:
    """Score by the default statistic of a drafted recipe, which needs no trained network."""
    with tempfile.TemporaryDirectory() as place:
        recipe, dataset = _drafted(learned, Path(place), seed)
    kernel = fit_kernel_density(dataset, recipe.seed)
    with torch.no_grad():
        parts = [kernel(batch) for batch in torch.split(torch.from_numpy(scored), _BATCH)]
    return torch.cat(parts).double().numpy()


def elbo(learned: Items, scored: Items, seed: int) -> Doubles:
    """Train a drafted recipe, and score by the ELBO."""
    with tempfile.TemporaryDirectory() as place:
        recipe, dataset = _drafted(learned, Path(place), seed)
        train(recipe, dataset, Path(place) / "run")
        vae = restore_published(recipe, dataset, Path(place) / "run")[0].model
    assert isinstance(vae, Vae)

    def run(inputs: Any) -> tuple[Items, ...]:
        with torch.no_grad():
            return tuple(term.numpy() for term in score_terms(vae, *map(torch.from_numpy, inputs)))

    scorer = bound_scorer(run, vae.latent, vae.prior is None, recipe.calibration)
    return scorer.surprises(scored)["elbo"]


def _neighbours(learned: Items, scored: Items, _seed: int) -> Doubles:
    scaler = StandardScaler().fit(learned)
    neighbours = NearestNeighbors(n_neighbors=min(5, len(learned))).fit(scaler.transform(learned))
    distances, _ = neighbours.kneighbors(scaler.transform(scored))
    return np.asarray(distances[:, -1], np.float64)


def _local_outlier_factor(learned: Items, scored: Items, _seed: int) -> Doubles:
    factor = LocalOutlierFactor(n_neighbors=min(20, len(learned) - 1), novelty=True)
    return _standardised_surprises(factor, learned, scored)


def _one_class_svm(learned: Items, scored: Items, _seed: int) -> Doubles:
    return _standardised_surprises(OneClassSVM(), learned, scored)


def _standardised_surprises(detector: Any, learned: Items, scored: Items) -> Doubles:
    fitted = make_pipeline(StandardScaler(), detector).fit(learned)
    return np.asarray(-fitted.score_samples(scored), np.float64)


def _ecod(learned: Items, scored: Items, _seed: int) -> Doubles:
    detector = importlib.import_module("pyod.models.ecod").ECOD().fit(learned)
    return np.asarray(detector.decision_function(scored), np.float64)


def _scored_by(fit: Fit) -> Detector:
    return lambda learned, scored, seed: fit(learned, seed)(scored)


DETECTORS: dict[str, Detector] = {
    "kernel_density": kernel_density,
    "kNN": _neighbours,
    "IForest": _scored_by(isolation_forest),
    "LOF": _local_outlier_factor,
    "OCSVM": _one_class_svm,
    "ECOD": _ecod,
    "elbo": elbo,
    "VAE": _scored_by(pyod_vae),
}
"""The detectors by their names in the results; the first is the default of a drafted recipe."""
OWN = ("kernel_density", "elbo")
SEEDLESS = ("kNN", "LOF", "OCSVM", "ECOD")
"""Detectors that have no seed: one training is all."""
