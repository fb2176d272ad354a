"""Figures measured on the test split, each with its standard error, and nothing chosen by them."""

from __future__ import annotations

import json
from pathlib import Path

from service.format.manifest import Metric
from training.data import Dataset
from training.evaluation.gan import evaluate_gan
from training.evaluation.vae import Watch, evaluate_vae
from training.loop.checkpoint import Checkpoint
from training.loop.gan import GanTask
from training.loop.task import Task
from training.loop.vae import VaeTask
from training.options import EvaluationOptions
from training.recipe import Recipe

__all__ = [
    "Watch",
    "evaluate",
    "evaluate_gan",
    "evaluate_vae",
    "figure_texts",
    "read_evaluation",
    "training_figures",
    "write_evaluation",
]

_FILE = "evaluation.json"


def evaluate(step: Task, recipe: Recipe, dataset: Dataset, watch: Watch) -> dict[str, Metric]:
    """Measure a trained model on the test split, by the recipe's [evaluation] table.

    `watch` is told of every test item whose likelihood has been sampled.
    """
    if isinstance(step, VaeTask):
        return evaluate_vae(step.model, dataset, recipe.evaluation, watch)
    assert isinstance(step, GanTask)
    assert recipe.gan is not None
    return evaluate_gan(step.model, recipe.gan, dataset, recipe.evaluation)


def write_evaluation(
    folder: Path, checkpoint: Checkpoint, options: EvaluationOptions, metrics: dict[str, Metric]
) -> None:
    """Keep the figures of a run's checkpoint as `evaluation.json`, with what they are figures of."""
    content = {
        **_measured(checkpoint, options),
        "metrics": {name: metric.model_dump() for name, metric in metrics.items()},
    }
    (folder / _FILE).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def read_evaluation(
    folder: Path, checkpoint: Checkpoint, options: EvaluationOptions | None
) -> dict[str, Metric] | None:
    """The figures kept for exactly these weights, measured in exactly this way (if one is given), or None."""
    try:
        content = json.loads((folder / _FILE).read_text(encoding="utf-8"))
        if any(content[key] != value for key, value in _measured(checkpoint, options).items()):
            return None
        return {name: Metric.model_validate(metric) for name, metric in content["metrics"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def figure_texts(metric: Metric) -> tuple[str, str]:
    """A figure's value and standard error as a person reads them; the latter empty if there is none."""
    value = f"{metric.value:,.0f}" if float(metric.value).is_integer() else f"{metric.value:.6g}"
    return value, "" if metric.standard_error is None else f"{metric.standard_error:.2g}"


def training_figures(recipe: Recipe, checkpoint: Checkpoint) -> dict[str, Metric]:
    """How long the model was trained: wall-clock time, resumed parts added up."""
    processes, threads = checkpoint.state["processes"], recipe.loop.threads
    where = f"{processes} process{'es' * (processes > 1)} of {threads} thread{'s' * (threads > 1)}"
    return {
        "training_time": Metric(
            value=round(checkpoint.state["seconds"] / 60, 1),
            unit="minutes",
            note=f"wall clock, {checkpoint.step} steps, {where}, seed {recipe.seed}",
        )
    }


def _measured(checkpoint: Checkpoint, options: EvaluationOptions | None) -> dict[str, object]:
    what: dict[str, object] = {"steps": checkpoint.step, "weights": checkpoint.fingerprint}
    return what if options is None else {**what, "options": options.model_dump(mode="json")}
