"""scikit-learn's breast-cancer table, of whose values 30 % are taken away at random."""

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_breast_cancer
from sklearn.metrics import roc_auc_score

from training.data import load_dataset
from training.loop.loop import train
from training.loop.runs import restore_published
from training.loop.vae import VaeTask
from training.models.vae import elbo, reconstruct, score_terms
from training.recipe import parse_recipe

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
SEEDS = (0, 1, 2)


def measured(folder: Path, seed: int) -> tuple[float, ...]:
    """AUROC of the ELBO, and the squared errors of filled-in values and of the column mean, in variances."""
    whole, benign = load_breast_cancer(return_X_y=True)
    items = np.where(np.random.default_rng(seed).random(whole.shape) < 0.3, np.nan, whole)
    np.savez(folder / "cancer.npz", items=items, labels=benign)
    recipe = parse_recipe(
        {
            "name": "cancer",
            "seed": seed + 1,
            "data": {
                "dataset": "arrays",
                "path": str(folder / "cancer.npz"),
                "keep": ["1"],
                "split_seed": seed,
            },
            "network": {"kind": "dense", "latent": 8, "hidden": [64]},
            "vae": {"likelihood": "gaussian", "kl_warmup_steps": 200},
            "loop": {
                "steps": 800,
                "batch_rows": 64,
                "gradient_clip": 100,
                "ema_decay": 0.99,
                "validate_every": 100,
            },
            "calibration": {"alpha": 0.1},
        }
    )
    dataset = load_dataset(recipe.data)
    train(recipe, dataset, folder / "run")
    task, _ = restore_published(recipe, dataset, folder / "run")
    assert isinstance(task, VaeTask)
    assert dataset.outliers is not None
    assert dataset.scaling is not None
    test = dataset.items["test"]
    rows = torch.from_numpy(np.concatenate([test, dataset.outliers]))
    eps = torch.randn(1, 64, 8, generator=torch.Generator().manual_seed(0)).expand(len(rows), -1, -1)
    with torch.no_grad():
        surprise = -elbo(score_terms(task.model, rows, eps))
        filled = reconstruct(task.model, torch.from_numpy(test)).numpy()
    anomaly = np.arange(len(rows)) >= len(test)
    known = {row.tobytes(): place for place, row in enumerate(items.astype(np.float32))}
    truth = whole[[known[row.tobytes()] for row in test]]
    missing = np.isnan(test)
    errors = [
        float(np.square((guess - truth) / dataset.scaling.scale)[missing].mean())
        for guess in (filled, dataset.scaling.shift)
    ]
    return float(roc_auc_score(anomaly, surprise)), *errors


def test_scores_find_the_malignant_and_filled_in_values_beat_the_mean(tmp_path: Path) -> None:
    found = []
    for seed in SEEDS:
        (tmp_path / str(seed)).mkdir()
        found.append(measured(tmp_path / str(seed), seed))
    areas, filled, mean = np.array(found).T
    assert areas.mean() >= 0.95
    assert (filled < 0.7 * mean).all()
