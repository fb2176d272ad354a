"""A run's folder and the model in it: built from a recipe, restored from a checkpoint."""

from __future__ import annotations

from pathlib import Path

import torch

from training.checkpoint import Checkpoint, CheckpointError, read_checkpoint
from training.data import Dataset
from training.gan import GanStep, make_gan
from training.likelihoods import SupportError
from training.recipe import Recipe, RecipeError, flattened, parse_recipe
from training.step import Noise, Step
from training.vae import make_vae
from training.vae_step import VaeStep

CHECKPOINTS, RECIPE = "checkpoints", "recipe.json"
"""Names of the checkpoint folder and of the recipe inside a run's folder."""
_MAY_DIFFER = ("evaluation.", "calibration.", "title", "loop.device", "loop.threads", "data.path")
"""Keys of a recipe that do not decide what is trained."""


def make_step(recipe: Recipe, dataset: Dataset) -> Step:
    """The recipe's model with weights initialised from its seed.

    Raises:
        SupportError: The model's likelihood does not fit the dataset.
    """
    with torch.random.fork_rng(devices=[]):
        Noise(recipe.seed, Noise.WEIGHTS, 0).seed_torch()
        if recipe.vae is not None:
            return VaeStep(make_vae(recipe, dataset), recipe.vae, recipe.loop.steps)
        assert recipe.gan is not None
        if dataset.scaling is not None:
            raise SupportError(
                f"a [gan] came with a table of shape {list(dataset.item_shape)}; a generator answers "
                "values in (0, 1), so GANs are for pictures: give a table a [vae], likelihood 'gaussian'"
            )
        return GanStep(make_gan(recipe, dataset.item_shape), recipe.gan)


def restore_averaged(recipe: Recipe, dataset: Dataset, folder: Path) -> tuple[Step, Checkpoint]:
    """The model with the averaged weights of a run's newest checkpoint, in evaluation mode.

    Raises:
        CheckpointError: There is no checkpoint, or it belongs to another recipe.
    """
    checkpoint = read_checkpoint(folder / CHECKPOINTS)
    check_recipe(recipe, checkpoint)
    check_data(dataset, checkpoint)
    step = make_step(recipe, dataset)
    step.model.load_state_dict(checkpoint.part("average"))
    step.model.eval().requires_grad_(False)
    return step, checkpoint


def check_recipe(recipe: Recipe, checkpoint: Checkpoint) -> None:
    """Refuse another recipe than the checkpoint's: it would make a model that no recipe describes.

    Raises:
        CheckpointError: Naming each key that differs; those that do not decide what is trained may.
    """
    try:
        stored = parse_recipe(checkpoint.state["recipe"])  # fills in what was added to recipes since
    except RecipeError as error:
        raise CheckpointError(f"the checkpoint's recipe is none that this program reads: {error}") from error
    ours, theirs = flattened(recipe.model_dump(mode="json")), flattened(stored.model_dump(mode="json"))
    different = [key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key)]
    trained = sorted(key for key in different if not key.startswith(_MAY_DIFFER))
    if trained:
        changes = ", ".join(f"{key} was {theirs.get(key)!r}, now {ours.get(key)!r}" for key in trained)
        raise CheckpointError(
            f"the checkpoint was written under another recipe ({changes}); "
            "use that recipe, or another run folder"
        )


def check_data(dataset: Dataset, checkpoint: Checkpoint) -> None:
    """Refuse other data than the checkpoint's: rows it was trained on might calibrate or test it.

    Raises:
        CheckpointError: An item, its split or its place is another one.
    """
    if checkpoint.state["data"] != dataset.fingerprint:
        raise CheckpointError(
            f"the items of {dataset.name!r} or their splits are not those that the checkpoint was "
            "trained on; restore the data, or train anew in another run folder"
        )
