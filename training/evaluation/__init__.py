"""Figures measured on the test split, each with its standard error, and nothing chosen by them."""

from __future__ import annotations

import json
from pathlib import Path

from service.contract import Metric
from training.data import Dataset
from training.evaluation.gan import evaluate_gan
from training.evaluation.vae import Watch, evaluate_vae
from training.gan import GanStep
from training.recipe import Recipe
from training.step import Step
from training.vae_step import VaeStep

__all__ = ["Watch", "evaluate", "evaluate_gan", "evaluate_vae", "read_evaluation", "write_evaluation"]

_FILE = "evaluation.json"


def evaluate(step: Step, recipe: Recipe, dataset: Dataset, watch: Watch) -> dict[str, Metric]:
    """Measure a trained model on the test split, by the recipe's [evaluation] table.

    `watch` is told of every test item whose likelihood has been sampled.
    """
    if isinstance(step, VaeStep):
        return evaluate_vae(step.model, dataset, recipe.evaluation, watch)
    assert isinstance(step, GanStep)
    return evaluate_gan(step.model, dataset, recipe.evaluation)


def write_evaluation(folder: Path, steps: int, metrics: dict[str, Metric]) -> None:
    """Keep the figures of a run's checkpoint of `steps` steps as `evaluation.json`."""
    content = {"steps": steps, "metrics": {name: metric.model_dump() for name, metric in metrics.items()}}
    (folder / _FILE).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def read_evaluation(folder: Path, steps: int) -> dict[str, Metric] | None:
    """The figures kept for exactly that many steps, or None."""
    path = folder / _FILE
    if not path.exists():
        return None
    content = json.loads(path.read_text(encoding="utf-8"))
    if content["steps"] != steps:
        return None
    return {name: Metric.model_validate(metric) for name, metric in content["metrics"].items()}
