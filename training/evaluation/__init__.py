"""Measures figures on the test split, each with its standard error; nothing is chosen by them."""

from __future__ import annotations

import json
from pathlib import Path

from service.format.specs import Metric
from training.data import Dataset
from training.evaluation.gan import evaluate_gan
from training.evaluation.vae import evaluate_vae
from training.loop.checkpoint import Checkpoint
from training.loop.progress import Advance
from training.loop.runs import ModelTask
from training.loop.vae import VaeTask
from training.options import EvaluationOptions
from training.recipe import Recipe

_FILE = "evaluation.json"


def evaluate(task: ModelTask, recipe: Recipe, dataset: Dataset, advance: Advance) -> dict[str, Metric]:
    """Measure a trained model on the test split, by the recipe's [evaluation] table.

    `advance` is called with the number of test items whose likelihood has been sampled.
    """
    if isinstance(task, VaeTask):
        return evaluate_vae(task.model, dataset, recipe.evaluation, advance)
    assert recipe.gan is not None
    return evaluate_gan(task.model, recipe.gan, dataset, recipe.evaluation)


def write_evaluation(
    folder: Path, checkpoint: Checkpoint, options: EvaluationOptions, metrics: dict[str, Metric]
) -> None:
    """Write the figures of a checkpoint to `evaluation.json`, with the weights and options they belong to."""
    metrics_as_json = {name: metric.model_dump() for name, metric in metrics.items()}
    content = {**_measured(checkpoint, options), "metrics": metrics_as_json}
    (folder / _FILE).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def read_evaluation(
    folder: Path, checkpoint: Checkpoint, options: EvaluationOptions | None
) -> dict[str, Metric] | None:
    """Read the figures of exactly these weights, measured with these options (if given); else return None."""
    try:
        content = json.loads((folder / _FILE).read_text(encoding="utf-8"))
        if any(content[key] != value for key, value in _measured(checkpoint, options).items()):
            return None
        return {name: Metric.model_validate(metric) for name, metric in content["metrics"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def training_figures(recipe: Recipe, checkpoint: Checkpoint) -> dict[str, Metric]:
    """Return the training time: wall-clock time over all resumed parts."""
    processes, threads = checkpoint.state["processes"], recipe.loop.threads
    where = f"{processes} process{'es' * (processes > 1)} of {threads} thread{'s' * (threads > 1)}"
    note = f"wall clock, {checkpoint.step} steps, {where}, seed {recipe.seed}"
    minutes = round(checkpoint.state["seconds"] / 60, 1)
    return {"training_time": Metric(value=minutes, unit="minutes", note=note)}


def _measured(checkpoint: Checkpoint, options: EvaluationOptions | None) -> dict[str, object]:
    what: dict[str, object] = {"steps": checkpoint.step, "weights": checkpoint.fingerprint}
    return what if options is None else {**what, "options": options.model_dump(mode="json")}
