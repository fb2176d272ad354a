"""Training with a class condition: every item is learned as one of its own class."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from training.data import Dataset, load_dataset
from training.loop.checkpoint import CheckpointError
from training.loop.loop import train
from training.loop.noise import Noise
from training.loop.runs import restore_published
from training.models.conditions import one_hot
from training.recipe import Recipe, parse_recipe

GREYS = np.array([0.1, 0.5, 0.9], np.float32)
"""The grey of all pixels of the pictures of each class, nearly."""


def greys(folder: Path, shuffle: int = 0) -> Path:
    """Pictures that are of one grey by their class, in a file with their labels."""
    random = np.random.default_rng(0)
    labels = random.integers(3, size=400)
    pictures = GREYS[labels][:, None, None] + random.uniform(-0.05, 0.05, (400, 4, 4)).astype(np.float32)
    path = folder / f"greys-{shuffle}.npz"
    np.savez(path, items=pictures, labels=np.array(["dark", "grey", "light"])[(labels + shuffle) % 3])
    return path


def recipe_of(path: Path, family: str, **changes: Any) -> Recipe:
    objective: dict[str, Any] = {"likelihood": "continuous-bernoulli"} if family == "vae" else {}
    return parse_recipe(
        {
            "name": "greys",
            "data": {"dataset": "arrays", "path": str(path)},
            "network": {"kind": "dense", "latent": 2, "hidden": [32]},
            family: {**objective, "conditional": True},
            "loop": {
                "steps": 800,
                "batch_rows": 64,
                "warmup_steps": 10,
                "ema_decay": 0.9,
                "learning_rate": 0.003,
            }
            | changes,
        }
    )


def sampled(recipe: Recipe, dataset: Dataset, run: Path, rows: int = 50) -> np.ndarray:
    """The mean grey of samples of each class."""
    task, _ = restore_published(recipe, dataset, run)
    noise = Noise(0, Noise.VALIDATION, 0)
    samples = [
        task.given(one_hot(np.full(rows, number), 3)).sample(noise, rows).mean().item() for number in range(3)
    ]
    return np.array(samples)


@pytest.mark.parametrize("family", ["vae", "gan"])
def test_samples_of_a_class_are_like_the_items_of_that_class(family: str, tmp_path: Path) -> None:
    recipe = recipe_of(greys(tmp_path), family)
    dataset = load_dataset(recipe.data)
    assert dataset.class_names == ("dark", "grey", "light")
    train(recipe, dataset, tmp_path / "run")
    assert np.abs(sampled(recipe, dataset, tmp_path / "run") - GREYS).max() < 0.15


def test_a_resumed_run_of_labelled_items_equals_an_uninterrupted_one(tmp_path: Path) -> None:
    recipe = recipe_of(greys(tmp_path), "vae", steps=20, checkpoint_every=10)
    dataset = load_dataset(recipe.data)
    train(recipe, dataset, tmp_path / "whole")
    train(recipe_of(greys(tmp_path), "vae", steps=20), dataset, tmp_path / "resumed")
    first, second = (
        restore_published(each, dataset, tmp_path / name)[0].model.state_dict()
        for each, name in ((recipe, "whole"), (recipe_of(greys(tmp_path), "vae", steps=20), "resumed"))
    )
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_checkpoint_of_other_labels_is_refused(tmp_path: Path) -> None:
    recipe = recipe_of(greys(tmp_path), "vae", steps=2)
    train(recipe, load_dataset(recipe.data), tmp_path / "run")
    other = recipe_of(greys(tmp_path, shuffle=1), "vae", steps=2)
    with pytest.raises(CheckpointError, match="restore the data"):
        restore_published(other, load_dataset(other.data), tmp_path / "run")
