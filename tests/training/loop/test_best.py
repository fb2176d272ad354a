"""Laws of the weights that a run publishes, and of its end before all its steps are done."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.training.tiny import digits, tiny_recipe
from training.data import Dataset
from training.loop.best import BestWeights
from training.loop.loop import train
from training.loop.noise import Noise
from training.loop.run_log import read_lines
from training.loop.runs import restore_published
from training.recipe import Recipe, RecipeError, parse_recipe


def hopeless() -> tuple[Recipe, Dataset]:
    """A network that can learn its forty pictures of nothing but noise by heart."""
    recipe = parse_recipe({
        "name": "hopeless",
        "data": {"dataset": "digits"},
        "network": {"kind": "dense", "latent": 32, "hidden": [512]},
        "vae": {"likelihood": "discretised-logistic"},
        "loop": {
            "steps": 120, "batch_rows": 40, "warmup_steps": 5, "learning_rate": 0.01, "ema_decay": 0.9,
            "log_every": 10, "validate_every": 10,
        },
    })  # fmt: skip
    generator = np.random.default_rng(0)
    items = {
        split: (generator.integers(0, 256, (40, 1, 8, 8)) / 255).astype(np.float32)
        for split in digits(recipe).items
    }
    return recipe, dataclasses.replace(digits(recipe), items=items)


def bounds(folder: Path) -> dict[float, float]:
    """The validation ELBO of each validated step."""
    return {line["step"]: line["validation_elbo"] for line in read_lines(folder) if "validation_elbo" in line}


def test_the_published_weights_are_those_with_the_best_validation_bound(tmp_path: Path) -> None:
    recipe, dataset = hopeless()
    outcome = train(recipe, dataset, tmp_path)
    logged = bounds(tmp_path)
    best = max(logged, key=logged.__getitem__)
    assert best < 120
    task, checkpoint = restore_published(recipe, dataset, tmp_path)
    assert (checkpoint.step, checkpoint.published_step) == (120, best)
    with torch.no_grad():
        items = torch.from_numpy(dataset.items["validation"])
        again = task.validate(items, Noise(recipe.seed, Noise.VALIDATION, 1))["elbo"].mean()
    assert float(again) == pytest.approx(logged[best], abs=2)  # by other noise
    assert [finding.trouble for finding in outcome.findings] == ["overfitting"]


def test_a_bound_that_is_no_number_is_never_the_best() -> None:
    best = BestWeights()
    for step, bound in enumerate((np.nan, -3.0, np.nan, -4.0), start=1):
        best.offer(step, bound, {"weight": torch.full((1,), float(step))})
    assert (best.step, best.bound, best.validations_since) == (2, -3.0, 2)
    assert best.tensors()["weight"] == 2


def test_a_run_ends_after_as_many_validations_without_a_better_bound_as_its_patience(tmp_path: Path) -> None:
    recipe, dataset = hopeless()
    loop = recipe.loop.model_copy(update={"patience": 3})
    patient = recipe.model_copy(update={"loop": loop})
    outcome = train(patient, dataset, tmp_path)
    logged = bounds(tmp_path)
    assert outcome.steps == max(logged, key=logged.__getitem__) + 30 < 120
    assert not outcome.interrupted
    resumed = train(patient, dataset, tmp_path, resume=True)
    assert (resumed.steps, resumed.interrupted) == (outcome.steps, False)


def test_a_gan_publishes_its_newest_weights_and_knows_no_patience(tmp_path: Path) -> None:
    recipe = tiny_recipe("gan")
    train(recipe, digits(recipe), tmp_path)
    _, checkpoint = restore_published(recipe, digits(recipe), tmp_path)
    assert checkpoint.published_step == checkpoint.step == 12
    with pytest.raises(RecipeError, match=r"loop\.patience came with \[gan\]"):
        tiny_recipe("gan", patience=3)


@pytest.mark.parametrize(
    ("options", "criterion"),
    [
        ({}, "elbo"),
        ({"kl_weight": 2.0}, "weighted_elbo"),
        ({"importance_from": 0.5, "kl_weight": 2.0}, "importance_bound"),
    ],
)
def test_the_best_weights_are_chosen_by_the_bound_that_is_trained(
    options: dict[str, float], criterion: str, tmp_path: Path
) -> None:
    table = tiny_recipe().model_dump(mode="json", exclude_none=True)
    table["vae"] |= options
    recipe = parse_recipe(table)
    train(recipe, digits(recipe), tmp_path)
    logged = [line[f"validation_{criterion}"] for line in read_lines(tmp_path) if "validation_elbo" in line]
    _, checkpoint = restore_published(recipe, digits(recipe), tmp_path)
    assert checkpoint.state["best"]["bound"] == pytest.approx(max(logged))
