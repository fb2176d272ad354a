"""A run's folder and the model in it: built from a recipe, restored from a checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from training.data import Dataset
from training.loop.checkpoint import AVERAGE, Checkpoint, CheckpointError, has_checkpoint, read_checkpoint
from training.loop.gan import EncoderTask, GanTask
from training.loop.noise import Noise
from training.loop.start import begin_with
from training.loop.task import Task
from training.loop.vae import VaeTask
from training.metrics.monitor import make_monitor
from training.models.gan import make_gan, make_gan_encoder
from training.models.vae import make_vae
from training.options import LoopOptions
from training.recipe import Recipe, RecipeError, flattened, parse_recipe

CHECKPOINTS, RECIPE = "checkpoints", "recipe.json"
"""Names of the checkpoint folder and of the recipe inside a run's folder."""
_MAY_DIFFER = (
    "evaluation.",
    "calibration.",
    "title",
    "loop.checkpoint_every",
    "loop.device",
    "loop.log_every",
    "loop.stop_after",
    "loop.threads",
    "data.path",
)
"""Keys of a recipe, also of its [encoder], that do not change the weights of any step."""
MODEL, ENCODER = "model", "encoder"
"""The stages. A GAN's encoder has a folder of that name inside its run's folder, with the same content."""
ModelTask = VaeTask | GanTask
"""The task of a recipe's model, which is evaluated and published."""


@dataclass(frozen=True)
class Stage:
    """One training: of a model, or of the encoder of a GAN that has been trained."""

    task: Task
    options: LoopOptions
    folder: Path
    """The folder of its checkpoints and its log."""
    frozen: nn.Module | None = None
    """A model that the task uses and does not change; it has to be on the same device."""
    based_on: str | None = None
    """Fingerprint of the frozen model's weights."""
    schedule_step: Callable[[int], int] = int
    """Maps the steps done to the place in the schedules; training ends at the place `options.steps`."""


def stages(recipe: Recipe) -> dict[str, LoopOptions]:
    """Return the names of a recipe's stages, in order, each with its loop's options."""
    return {MODEL: recipe.loop} | ({} if recipe.encoder is None else {ENCODER: recipe.encoder.loop})


def make_stage(recipe: Recipe, dataset: Dataset, folder: Path, name: str) -> Stage:
    """Make a stage of the run in `folder`, with weights initialised from the recipe's seed, or its `start`.

    A run that has a checkpoint goes on from that, and needs the version that it started from no more.

    Raises:
        CheckpointError: The stage needs another one, which has not been trained.
        RecipeError: The recipe's `start` is no version, or one of other networks.
        SupportError: The model's likelihood does not fit the dataset.
    """
    if name != ENCODER:
        model_task = make_task(recipe, dataset)
        if recipe.start is not None and not has_checkpoint(folder / CHECKPOINTS):
            begin_with(model_task.model, Path(recipe.start))
        return Stage(model_task, recipe.loop, folder)
    gan, checkpoint = _restored(recipe, dataset, folder)
    assert isinstance(gan, GanTask)
    assert recipe.encoder is not None
    with Noise(recipe.seed, Noise.WEIGHTS, 0).seeding_torch():
        gan.model.encoder = make_gan_encoder(recipe, dataset)
    if recipe.start is not None and not has_checkpoint(folder / ENCODER / CHECKPOINTS):
        begin_with(gan.model.encoder, Path(recipe.start), prefix="encoder.")
    task = EncoderTask(gan.model, recipe.encoder)
    return Stage(task, recipe.encoder.loop, folder / ENCODER, gan.model, checkpoint.fingerprint)


def make_task(recipe: Recipe, dataset: Dataset) -> ModelTask:
    """Make the task of the recipe's model, with weights initialised from the recipe's seed.

    Raises a SupportError if the model's likelihood does not fit the dataset.
    """
    with Noise(recipe.seed, Noise.WEIGHTS, 0).seeding_torch():
        if recipe.vae is not None:
            return VaeTask(make_vae(recipe, dataset), recipe.vae, recipe.loop.steps)
        assert recipe.gan is not None
        return GanTask(make_gan(recipe, dataset), recipe.gan, recipe.loop.steps, make_monitor(dataset))


def restore_published(recipe: Recipe, dataset: Dataset, folder: Path) -> tuple[ModelTask, Checkpoint]:
    """Restore the model with the weights that a run publishes, from its newest checkpoint, to evaluate it.

    They are averaged weights: of the validation with the best bound for a VAE, the newest for a GAN. A GAN's
    encoder is restored with it, and the returned checkpoint includes its weights.

    Raises:
        CheckpointError: There is no checkpoint, or it belongs to another recipe.
    """
    task, checkpoint = _restored(recipe, dataset, folder)
    if recipe.encoder is not None:
        assert isinstance(task, GanTask)
        encoder = read_checkpoint(folder / ENCODER / CHECKPOINTS)
        check_checkpoint(encoder, recipe, dataset, folder / ENCODER, checkpoint.fingerprint)
        task.model.encoder = make_gan_encoder(recipe, dataset)
        task.model.encoder.load_state_dict(encoder.published())
        task.model.eval().requires_grad_(False)
        weights = {f"{AVERAGE}.encoder.{name}": tensor for name, tensor in encoder.published().items()}
        seconds = checkpoint.state["seconds"] + encoder.state["seconds"]
        state = {**checkpoint.state, "seconds": seconds}
        checkpoint = Checkpoint(checkpoint.step, {**checkpoint.tensors, **weights}, state)
    return task, checkpoint


def _restored(recipe: Recipe, dataset: Dataset, folder: Path) -> tuple[ModelTask, Checkpoint]:
    checkpoint = read_checkpoint(folder / CHECKPOINTS)
    check_checkpoint(checkpoint, recipe, dataset, folder)
    task = make_task(recipe, dataset)
    task.model.load_state_dict(checkpoint.published())
    task.model.eval().requires_grad_(False)
    return task, checkpoint


def fingerprint_of(recipe: Recipe, dataset: Dataset) -> str:
    """Return the fingerprint of all that a recipe's model learns from."""
    return dataset.labelled_fingerprint if recipe.conditional else dataset.fingerprint


def check_checkpoint(
    checkpoint: Checkpoint, recipe: Recipe, dataset: Dataset, folder: Path, based_on: str | None = None
) -> None:
    """Raise a CheckpointError for a checkpoint of another recipe or data, or of an encoder for other weights.

    Keys of the recipe that do not change the trained weights may differ. With other data, items that the
    model was trained on might calibrate or test it.
    """
    try:
        stored = parse_recipe(checkpoint.state["recipe"])  # adds defaults of keys that are newer
    except RecipeError as error:
        raise CheckpointError(f"the checkpoint's recipe is none that this program reads: {error}") from error
    left_out = None if based_on else {ENCODER}  # which may be added to a model that is trained
    ours, theirs = (flattened(each.model_dump(mode="json", exclude=left_out)) for each in (recipe, stored))
    changes = [
        f"{key} was {theirs.get(key)!r}, now {ours.get(key)!r}"
        for key in sorted(ours.keys() | theirs.keys())
        if ours.get(key) != theirs.get(key) and not key.removeprefix(f"{ENCODER}.").startswith(_MAY_DIFFER)
    ]
    if changes:
        raise CheckpointError(
            f"the checkpoint was written under another recipe ({', '.join(changes)}); "
            "use that recipe, or another run folder"
        )
    if checkpoint.state["data"] != fingerprint_of(recipe, dataset):
        raise CheckpointError(
            f"the items of {dataset.name!r} or their splits are not those that the checkpoint was "
            "trained on; restore the data, or train anew in another run folder"
        )
    if checkpoint.state["based_on"] != based_on:
        raise CheckpointError(
            f"{folder} was trained for other weights than the run has now; remove it, and go on with --resume"
        )
