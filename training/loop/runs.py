"""A run's folder and the model in it: built from a recipe, restored from a checkpoint."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from training.data import Dataset
from training.loop.checkpoint import Checkpoint, CheckpointError, read_checkpoint
from training.loop.gan import EncoderTask, GanTask
from training.loop.task import Noise, Task
from training.loop.vae import VaeTask
from training.metrics.monitor import make_watch
from training.models.gan import make_gan, make_gan_encoder
from training.models.vae import make_vae
from training.options import LoopOptions
from training.recipe import Recipe, RecipeError, flattened, parse_recipe

CHECKPOINTS, RECIPE = "checkpoints", "recipe.json"
"""Names of the checkpoint folder and of the recipe inside a run's folder."""
_MAY_DIFFER = ("evaluation.", "calibration.", "title", "loop.device", "loop.threads", "data.path")
"""Keys of a recipe that do not decide what is trained."""
MODEL, ENCODER = "model", "encoder"
"""The stages; a GAN's encoder has a folder of that name inside its run's, which looks like a run's itself."""


@dataclass(frozen=True)
class Stage:
    """What is trained in one go: a model, or the encoder of a GAN that is trained already."""

    step: Task
    options: LoopOptions
    folder: Path
    """Where its checkpoints and its journal go."""
    beside: nn.Module | None = None
    """What it learns from and leaves as it is, which has to be on the same device."""
    based_on: str | None = None
    """Fingerprint of those finished weights."""
    schedule_step: Callable[[int], int] = int
    """Maps the steps done to the place in the schedules; training ends at the place `options.steps`."""


def stages(recipe: Recipe) -> dict[str, LoopOptions]:
    """The names of a recipe's stages, in order, and how each is trained."""
    return {MODEL: recipe.loop} | ({} if recipe.encoder is None else {ENCODER: recipe.encoder.loop})


def make_stage(recipe: Recipe, dataset: Dataset, folder: Path, name: str) -> Stage:
    """A stage of the run in `folder`, with weights initialised from the recipe's seed.

    Raises:
        CheckpointError: The stage builds on another one, which has not been trained.
        SupportError: The model's likelihood does not fit the dataset.
    """
    if name != ENCODER:
        return Stage(make_task(recipe, dataset), recipe.loop, folder)
    gan, checkpoint = _restored(recipe, dataset, folder)
    assert isinstance(gan, GanTask)
    assert recipe.encoder is not None
    with _seeded(recipe):
        gan.model.encoder = make_gan_encoder(recipe, dataset)
    step = EncoderTask(gan.model, recipe.encoder)
    return Stage(step, recipe.encoder.loop, folder / ENCODER, gan.model, checkpoint.fingerprint)


def make_task(recipe: Recipe, dataset: Dataset) -> Task:
    """The recipe's model with weights initialised from its seed.

    Raises:
        SupportError: The model's likelihood does not fit the dataset.
    """
    with _seeded(recipe):
        if recipe.vae is not None:
            return VaeTask(make_vae(recipe, dataset), recipe.vae, recipe.loop.steps)
        assert recipe.gan is not None
        return GanTask(make_gan(recipe, dataset), recipe.gan, recipe.loop.steps, make_watch(dataset))


@contextlib.contextmanager
def _seeded(recipe: Recipe) -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        Noise(recipe.seed, Noise.WEIGHTS, 0).seed_torch()
        yield


def restore_averaged(recipe: Recipe, dataset: Dataset, folder: Path) -> tuple[Task, Checkpoint]:
    """The model with the averaged weights of a run's newest checkpoints, in evaluation mode.

    A GAN's encoder is restored with it, and its weights are among the checkpoint's.

    Raises:
        CheckpointError: There is no checkpoint, or it belongs to another recipe.
    """
    step, checkpoint = _restored(recipe, dataset, folder)
    if recipe.encoder is not None:
        assert isinstance(step, GanTask)
        encoder = read_checkpoint(folder / ENCODER / CHECKPOINTS)
        check_recipe(recipe, encoder)
        check_base(checkpoint.fingerprint, encoder, folder / ENCODER)
        step.model.encoder = make_gan_encoder(recipe, dataset)
        step.model.encoder.load_state_dict(encoder.part("average"))
        weights = {f"average.encoder.{name}": tensor for name, tensor in encoder.part("average").items()}
        seconds = checkpoint.state["seconds"] + encoder.state["seconds"]
        checkpoint = replace(
            checkpoint,
            tensors={**checkpoint.tensors, **weights},
            state={**checkpoint.state, "seconds": seconds},
        )
    step.model.eval().requires_grad_(False)
    return step, checkpoint


def _restored(recipe: Recipe, dataset: Dataset, folder: Path) -> tuple[Task, Checkpoint]:
    checkpoint = read_checkpoint(folder / CHECKPOINTS)
    check_recipe(recipe, checkpoint, apart_from=(ENCODER,))
    check_data(dataset, checkpoint)
    step = make_task(recipe, dataset)
    step.model.load_state_dict(checkpoint.part("average"))
    step.model.eval().requires_grad_(False)
    return step, checkpoint


def check_recipe(recipe: Recipe, checkpoint: Checkpoint, apart_from: tuple[str, ...] = ()) -> None:
    """Refuse another recipe than the checkpoint's: it would make a model that no recipe describes.

    Args:
        recipe: The one at hand.
        checkpoint: What it is to go on from.
        apart_from: Beginnings of keys that decide nothing here.

    Raises:
        CheckpointError: Naming each key that differs; those that do not decide what is trained may.
    """
    try:
        stored = parse_recipe(checkpoint.state["recipe"])  # fills in what was added to recipes since
    except RecipeError as error:
        raise CheckpointError(f"the checkpoint's recipe is none that this program reads: {error}") from error
    ours, theirs = flattened(recipe.model_dump(mode="json")), flattened(stored.model_dump(mode="json"))
    different = [key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key)]
    trained = sorted(key for key in different if not key.startswith(_MAY_DIFFER + apart_from))
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


def check_base(fingerprint: str | None, checkpoint: Checkpoint, folder: Path) -> None:
    """Refuse a stage that learned from other weights than those at hand.

    Raises:
        CheckpointError: Naming the folder to remove.
    """
    if checkpoint.state["based_on"] != fingerprint:
        raise CheckpointError(
            f"{folder} was trained for other weights than the run has now; remove it, and go on with --resume"
        )
