"""Laws of the batches that a run is trained on."""

import dataclasses
from pathlib import Path

import numpy as np

from tests.training.tiny import tiny_table
from training.data import Dataset
from training.loop.batches import Batches
from training.loop.distributed import ALONE
from training.loop.noise import Noise
from training.loop.runs import MODEL, make_stage
from training.recipe import parse_recipe


def test_a_grey_pixel_is_on_in_as_large_a_share_of_the_steps(digits: Dataset, tmp_path: Path) -> None:
    data = {"data": {"dataset": "digits", "binarise": "dynamic"}, "vae": {"likelihood": "bernoulli"}}
    recipe = parse_recipe(tiny_table() | data)
    greys = {split: np.full_like(items, 0.3) for split, items in digits.items.items()}
    dataset = dataclasses.replace(digits, items=greys)
    task = make_stage(recipe, dataset, tmp_path, MODEL).task
    batches = Batches(recipe, dataset, task, 200, ALONE)
    steps = np.stack([batches.of_step(n, Noise(0, Noise.TRAINING, n))[0].numpy() for n in range(6)])
    assert set(np.unique(steps)) == {0, 1}
    assert abs(steps.mean() - 0.3) < 5 * np.sqrt(0.3 * 0.7 / steps.size)
    assert all((steps[0] != other).any() for other in steps[1:])
