"""The training loop: one loop for every model that is a `Task`, in one process or several.

Everything random in step n is a function of (seed, n), and a checkpoint holds all the rest, so a resumed
run equals an uninterrupted one bit for bit on the CPU.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from training.data import Dataset
from training.loop.checkpoint import (
    Checkpoint,
    CheckpointError,
    has_checkpoint,
    optimiser_tensors,
    read_checkpoint,
    restore_optimiser,
    write_checkpoint,
)
from training.loop.distributed import ALONE, ProcessGroup, ProcessGroupError
from training.loop.interrupt import interrupt_flag
from training.loop.journal import Journal
from training.loop.progress import Watch
from training.loop.runs import (
    CHECKPOINTS,
    ENCODER,
    MODEL,
    RECIPE,
    Stage,
    check_base,
    check_data,
    check_recipe,
    make_stage,
)
from training.loop.task import MeanLoss, Noise
from training.recipe import Recipe

SAMPLE_ROWS = 64


class DivergenceError(RuntimeError):
    """A loss or gradient is no longer finite; the message names the step and the phase."""


@dataclass(frozen=True)
class Outcome:
    """How a call of `train` ended."""

    steps: int
    """Steps done in total."""
    interrupted: bool
    """Whether SIGINT ended it; the checkpoint then holds exactly `steps` steps."""


def train(
    recipe: Recipe,
    dataset: Dataset,
    folder: Path,
    *,
    stage: str | Stage = MODEL,
    resume: bool = False,
    watch: Watch | None = None,
    group: ProcessGroup = ALONE,
) -> Outcome:
    """Train a recipe's model, writing `metrics.jsonl`, `samples/` and `checkpoints/` into `folder`.

    SIGINT (Ctrl-C) and SIGTERM end the current step, save a checkpoint and return.

    Args:
        recipe: What to train.
        dataset: The recipe's data.
        folder: The run's folder, made if missing.
        stage: Which of the recipe's stages; one that builds on another has a folder of its own inside. Or a
            stage that the caller has made.
        resume: Go on from the newest checkpoint, if there is one; else a folder with one is refused.
        watch: Told after every step.
        group: This process among those that train together; all call this alike.

    Raises:
        CheckpointError: The folder holds a checkpoint and `resume` is false, or it is another recipe's.
        DivergenceError: A loss or gradient stopped being finite.
        ProcessGroupError: The batch cannot be shared equally, or the processes see different checkpoints.
        SupportError: Items have values outside of the likelihood's support.
    """
    torch.set_num_threads(recipe.loop.threads)
    made = make_stage(recipe, dataset, folder, stage) if isinstance(stage, str) else stage
    run = _Run(recipe, dataset, made, resume, group)
    with interrupt_flag(again_kills=group.size == 1) as interrupted:
        while run.place() < run.steps and not group.any(interrupted.is_set()):
            run.advance()
            if watch is not None:
                watch(run.steps_done, run.journal.latest)
        run.save()
    return Outcome(run.steps_done, interrupted=run.place() < run.steps)


class _Run:
    """The state of one training run, advanced a step at a time."""

    def __init__(
        self, recipe: Recipe, dataset: Dataset, stage: Stage, resume: bool, group: ProcessGroup
    ) -> None:
        self.steps_done, self._saved = 0, -1
        self._started, self._seconds_before = time.monotonic(), 0.0
        self._group, self._data = group, dataset.fingerprint
        self.steps = stage.options.steps
        self.journal = Journal(stage.folder)
        self._recipe, self._stage, self._options = recipe, stage, stage.options
        self._dynamic = recipe.data.binarise == "dynamic"
        self._train = torch.from_numpy(dataset.items["train"])
        self._validation = torch.from_numpy(dataset.items["validation"][: self._options.validation_rows])
        self._rows = min(self._options.batch_rows, len(self._train))
        if self._rows % group.size:
            raise ProcessGroupError(
                f"batches of {self._rows} rows cannot be shared equally by {group.size} processes; "
                "set loop.batch_rows to a multiple of their number"
            )
        self._order = (-1, torch.empty(0, dtype=torch.int64))
        self._step = stage.step
        self._step.model.to(group.device)
        if stage.beside is not None:
            stage.beside.to(group.device)
        for split, items in dataset.items.items():
            if not (self._dynamic and split == "train"):
                self._step.check(torch.from_numpy(items))
        self._averaged = copy.deepcopy(self._step)
        self._averaged.model.eval().requires_grad_(False)
        self._phases = self._step.phases()
        self._optimisers = {
            phase.name: torch.optim.Adam(
                phase.parameter_groups(),
                lr=self._options.learning_rate,
                betas=self._options.betas,
                fused=True,
            )
            for phase in self._phases
        }
        self._resume_or_refuse(resume, dataset)
        self._losses = {phase.name: group.averaging(MeanLoss(phase)) for phase in self._phases}
        if group.leads:
            self.journal.begin(self.steps_done)
            (stage.folder / RECIPE).write_text(recipe.model_dump_json(indent=2), encoding="utf-8")

    def place(self) -> int:
        """Return the place in the schedules, of `steps`."""
        return self._stage.schedule_step(self.steps_done)

    def advance(self) -> None:
        """Do one step, and what is due after it."""
        n, place = self.steps_done, self.place()
        noise = Noise(self._recipe.seed, Noise.TRAINING, n, self._group)
        items = self._batch(n, noise)
        rate = self._options.learning_rate_at(place)
        values: dict[str, float] = {}
        for phase in self._phases:
            # The other phases' networks stay fixed: their gradients are not even computed.
            for other in self._phases:
                other.trains.requires_grad_(other is phase)
            loss, report = self._losses[phase.name](items, noise, place)
            optimiser = self._optimisers[phase.name]
            for group in optimiser.param_groups:
                group["lr"] = group["rate"].at(rate, place / self.steps)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            norm = nn.utils.clip_grad_norm_(phase.trains.parameters(), self._options.gradient_clip)
            means = self._group.mean(torch.stack([loss.detach(), *report.values()])).tolist()
            _check_finite(means[0], norm.item(), n, phase.name)
            optimiser.step()
            values |= dict(zip(report, means[1:], strict=True))
            values[f"{phase.name}_gradient_norm"] = norm.item()
        self._average(n)
        self.journal.add(values, len(items) * self._group.size)
        self.steps_done = n + 1
        self._do_what_is_due(rate)

    def save(self) -> None:
        """Write a checkpoint of exactly this state; one process does."""
        if not self._group.leads or self._saved == self.steps_done:
            return
        tensors = _named("model", self._step.model.state_dict())
        tensors |= _named("average", self._averaged.model.state_dict())
        for name, optimiser in self._optimisers.items():
            tensors |= _named(f"optimiser.{name}", optimiser_tensors(optimiser))
        state = {
            "recipe": self._recipe.model_dump(mode="json"),
            "data": self._data,
            "based_on": self._stage.based_on,
            "seconds": self._seconds_before + time.monotonic() - self._started,
            "processes": self._group.size,
            "libraries": {"torch": torch.__version__},
        }
        write_checkpoint(self._stage.folder / CHECKPOINTS, Checkpoint(self.steps_done, tensors, state))
        self._saved = self.steps_done

    def _resume_or_refuse(self, resume: bool, dataset: Dataset) -> None:
        checkpoints = self._stage.folder / CHECKPOINTS
        found = has_checkpoint(checkpoints)
        self._group.require_equal(int(found), "whether there is a checkpoint")
        if not found:
            return
        if not resume:
            raise CheckpointError(
                f"{checkpoints} already holds a checkpoint; pass --resume to go on from it, "
                "or remove the run's folder to start anew"
            )
        checkpoint = read_checkpoint(checkpoints)
        check_recipe(self._recipe, checkpoint, () if self._stage.based_on else (ENCODER,))
        check_data(dataset, checkpoint)
        check_base(self._stage.based_on, checkpoint, self._stage.folder)
        self._step.model.load_state_dict(checkpoint.part("model"))
        self._averaged.model.load_state_dict(checkpoint.part("average"))
        for name, optimiser in self._optimisers.items():
            restore_optimiser(optimiser, checkpoint.part(f"optimiser.{name}"))
        self.steps_done = self._saved = checkpoint.step
        self._seconds_before = checkpoint.state["seconds"]
        self._group.require_equal(checkpoint.step, "the step of the newest checkpoint")

    def _batch(self, n: int, noise: Noise) -> Tensor:
        epoch, position = divmod(n, len(self._train) // self._rows)
        if self._order[0] != epoch:
            order = Noise(self._recipe.seed, Noise.ORDER, epoch).permutation(len(self._train))
            self._order = (epoch, order)
        items = self._train[self._order[1][position * self._rows : (position + 1) * self._rows]]
        items = self._group.share(items)
        if self._dynamic:
            items = (noise.uniform(*items.shape) < items).float()
        return items

    def _average(self, n: int) -> None:
        """Exponential moving average of the weights, over all steps so far while those are few."""
        decay = min(self._options.ema_decay, (1 + n) / (10 + n))
        averaged: list[Tensor] = list(self._averaged.model.parameters())
        current = [parameter.detach() for parameter in self._step.model.parameters()]
        torch._foreach_lerp_(averaged, current, 1 - decay)

    def _do_what_is_due(self, rate: float) -> None:
        n, options = self.steps_done, self._options
        if not self._group.leads:
            return
        last = n == options.steps
        if n % options.log_every == 0 or last:
            self.journal.write_means(n, rate)
        if n % options.validate_every == 0 or last:
            # The same noise each time: differences along the run are the model's.
            noise = Noise(self._recipe.seed, Noise.VALIDATION, 0, ProcessGroup(device=self._group.device))
            with torch.no_grad():
                samples = self._averaged.sample(noise, SAMPLE_ROWS).cpu()
                figures = self._averaged.validate(self._validation.to(self._group.device), noise)
            self.journal.write_validation(n, figures, samples)
        if n % options.checkpoint_every == 0 and not last:
            self.save()


def _check_finite(loss: float, norm: float, n: int, phase: str) -> None:
    if not (math.isfinite(loss) and math.isfinite(norm)):
        raise DivergenceError(
            f"step {n}, phase {phase}: the loss is {loss} and its gradient norm {norm}; "
            "no weights were changed by it. Lower loop.learning_rate or loop.gradient_clip and start anew"
        )


def _named(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}
