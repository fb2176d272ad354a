"""The training loop, for every model that is a `Task`, in one process or several.

All randomness in step n is a function of (seed, n), and a checkpoint holds everything else, so a resumed run
equals an uninterrupted one bit for bit on the CPU.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from training.data import Dataset
from training.data.batches import rows_at_once
from training.data.stored import in_blocks
from training.loop.batches import Batches
from training.loop.best import BestWeights
from training.loop.checkpoint import (
    AVERAGE,
    BEST,
    Checkpoint,
    CheckpointError,
    has_checkpoint,
    optimiser_tensors,
    read_checkpoint,
    restore_optimiser,
    write_checkpoint,
)
from training.loop.diagnostics import Diagnosis, diagnose
from training.loop.distributed import ALONE, ProcessGroup
from training.loop.interrupt import interrupt_flag
from training.loop.lock import alone_in
from training.loop.noise import Noise
from training.loop.progress import OnProgress
from training.loop.run_log import RunLog
from training.loop.runs import CHECKPOINTS, MODEL, RECIPE, Stage, check_checkpoint, fingerprint_of, make_stage
from training.loop.task import MeanLoss, Phase
from training.models.conditions import in_turn, one_hot
from training.models.networks.dense import Network
from training.recipe import Recipe

_SAMPLE_ROWS = 64


class DivergenceError(RuntimeError):
    """A loss or gradient is no longer finite; the message names the step and the phase."""


@dataclass(frozen=True)
class TrainingOutcome:
    """The result of a call of `train`."""

    steps: int
    """The number of optimiser steps that are done."""
    findings: tuple[Diagnosis, ...] = ()
    """The troubles that the log shows."""
    exit_status: int = 0
    """The status of a process that a signal ends, by the convention of shells, if one ended this; else 0."""

    @property
    def interrupted(self) -> bool:
        """Return whether a signal ended it; the checkpoint then holds exactly `steps` steps."""
        return self.exit_status != 0


def train(
    recipe: Recipe,
    dataset: Dataset,
    folder: Path,
    *,
    stage: str | Stage = MODEL,
    resume: bool = False,
    on_progress: OnProgress | None = None,
    group: ProcessGroup = ALONE,
) -> TrainingOutcome:
    """Train a recipe's model, writing `metrics.jsonl`, `samples/` and `checkpoints/` into `folder`.

    A run of a VAE ends early if its recipe has a `patience` and no validation was better for as long.
    SIGINT (Ctrl-C), SIGTERM and SIGHUP end the current step, save a checkpoint and return. `stage` names one
    of the recipe's stages, or is one that the caller made; the stage of an encoder has its own folder inside
    the run's. `resume` continues from the newest checkpoint, if there is one; without it a folder with one is
    refused. All processes of the group call this with the same arguments.

    Raises:
        CheckpointError: The folder holds a checkpoint and `resume` is false, or it is another recipe's, or
            another training is at work in it.
        DivergenceError: A loss or gradient stopped being finite.
        RecipeError: The recipe's [augmentation] does not fit the items.
        ProcessGroupError: The batch cannot be shared equally, or the processes see different checkpoints.
        SupportError: Items have values outside the likelihood's support.
    """
    torch.set_num_threads(recipe.loop.threads)
    made = make_stage(recipe, dataset, folder, stage) if isinstance(stage, str) else stage
    with ExitStack() as stack:
        if group.leads:
            stack.enter_context(alone_in(folder))
        run = _Run(recipe, dataset, made, resume, group)
        interrupted = stack.enter_context(interrupt_flag(second_signal_kills=group.size == 1))
        while not group.any(run.is_over() or interrupted.is_set()):
            run.advance()
            if on_progress is not None:
                on_progress(run.steps_done, run.state_text())
        run.save()
    status = 0 if group.any(run.is_over()) else interrupted.exit_status
    return TrainingOutcome(run.steps_done, tuple(run.findings), status)


class _Run:
    """The state of one training run; `advance` does one step."""

    def __init__(
        self, recipe: Recipe, dataset: Dataset, stage: Stage, resume: bool, group: ProcessGroup
    ) -> None:
        self.steps, self.steps_done, self._saved = stage.options.steps, 0, -1
        self._started, self._seconds_before = time.monotonic(), 0.0
        self._group, self._data = group, fingerprint_of(recipe, dataset)
        self.log = RunLog(stage.folder)
        self._recipe, self._stage, self._options = recipe, stage, stage.options
        self._batches = Batches(recipe, dataset, stage.task, stage.options.batch_rows, group)
        self._validation = torch.from_numpy(dataset.items["validation"][: self._options.validation_rows])
        self._validation_labels, self._task = dataset.labels["validation"], stage.task
        self._task.model.to(group.device)
        if stage.frozen is not None:
            stage.frozen.to(group.device)
        self._check_items(dataset)
        self._averaged = copy.deepcopy(self._task)
        self._averaged.model.eval().requires_grad_(False)
        for model in (self._task.model, stage.frozen):
            for module in () if model is None else model.modules():
                if isinstance(module, Network):
                    module.in_bfloat16 = self._options.precision == "bfloat16"
        self._best = BestWeights()
        self.findings: list[Diagnosis] = []
        self._phases = self._task.phases()
        # walked once: doing so in every step costs a small network 6 % of its time
        self._parameters = {phase.name: list(phase.trains.parameters()) for phase in self._phases}
        self._weights: list[Tensor] = list(self._task.model.parameters())
        self._averaged_weights: list[Tensor] = list(self._averaged.model.parameters())
        self._optimisers = {phase.name: self._optimiser_of(phase) for phase in self._phases}
        self._resume_or_refuse(resume, dataset)
        self._losses = {phase.name: group.averaging(MeanLoss(phase)) for phase in self._phases}
        if group.leads:
            self.log.begin(self.steps_done)
            self._diagnose()
            (stage.folder / RECIPE).write_text(recipe.model_dump_json(indent=2), encoding="utf-8")

    def is_over(self) -> bool:
        """Return whether the schedule is done, or its recipe's `stop_after` or `patience` ends the run."""
        stop = self._options.stop_after
        stopped = stop is not None and self.steps_done >= stop
        exhausted = 0 < self._options.patience <= self._best.validations_since
        return stopped or exhausted or self.place() >= self.steps

    def state_text(self) -> str:
        """Return the latest terms, those of held-out items and troubles as text for a person."""
        troubles = f"! {', '.join(finding.trouble for finding in self.findings)}" if self.findings else ""
        return "\n".join(filter(None, (self.log.latest, self.log.validated, troubles)))

    def place(self) -> int:
        """Return the place in the schedules, of `steps`."""
        return self._stage.schedule_step(self.steps_done)

    def advance(self) -> None:
        """Do one step, then log, validate and save if it is time to."""
        n, place = self.steps_done, self.place()
        noise = Noise(self._recipe.seed, Noise.TRAINING, n, self._group)
        items, labels = self._batches.of_step(n, noise)
        rate = self._options.learning_rate_at(place)
        values: dict[str, float] = {}
        for phase in self._phases:
            # the other phases' networks stay fixed, and their gradients are not computed
            for name, parameters in self._parameters.items():
                for parameter in parameters:
                    parameter.requires_grad_(name == phase.name)
            loss, report = self._losses[phase.name](items, noise, place, labels)
            optimiser = self._optimisers[phase.name]
            for group in optimiser.param_groups:
                group["lr"] = group["rate"].at(rate, place / self.steps)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            norm = nn.utils.clip_grad_norm_(self._parameters[phase.name], self._options.gradient_clip)
            means = self._group.mean(torch.stack([loss.detach(), *report.values()])).tolist()
            if not math.isfinite(means[0]) or not math.isfinite(norm.item()):
                raise DivergenceError(
                    f"step {n}, phase {phase.name}: the loss is {means[0]} and its gradient norm "
                    f"{norm.item()}; no weights were changed by it. Lower loop.learning_rate or "
                    "loop.gradient_clip and start anew"
                )
            optimiser.step()
            values |= dict(zip(report, means[1:], strict=True))
            values[f"{phase.name}_gradient_norm"] = norm.item()
        self._average(n)
        self.log.add(values, len(items) * self._group.size)
        self.steps_done = n + 1
        self._log_and_save(rate)

    def save(self) -> None:
        """Write a checkpoint of this state; only the leading process does."""
        if not self._group.leads or self._saved == self.steps_done:
            return
        parts = {
            "model": self._task.model.state_dict(),
            AVERAGE: self._averaged.model.state_dict(),
            BEST: self._best.tensors(),
        }
        for name, optimiser in self._optimisers.items():
            parts[f"optimiser.{name}"] = optimiser_tensors(optimiser)
        tensors = {f"{part}.{name}": each for part, named in parts.items() for name, each in named.items()}
        state = {
            "recipe": self._recipe.model_dump(mode="json"),
            "data": self._data,
            "based_on": self._stage.based_on,
            "seconds": self._seconds_before + time.monotonic() - self._started,
            "processes": self._group.size,
            "libraries": {"torch": torch.__version__},
            BEST: self._best.state(),
        }
        write_checkpoint(self._stage.folder / CHECKPOINTS, Checkpoint(self.steps_done, tensors, state))
        self._saved = self.steps_done

    def _check_items(self, dataset: Dataset) -> None:
        """Refuse items outside the likelihood's support; grey values that are binarised later may be any."""
        dynamic = self._recipe.data.binarise == "dynamic"
        for split, items in dataset.items.items():
            if not (dynamic and split == "train"):
                for rows in in_blocks(items):
                    self._task.check(torch.from_numpy(rows))

    def _optimiser_of(self, phase: Phase) -> torch.optim.Optimizer:
        return torch.optim.Adam(
            phase.parameter_groups(self._options.weight_decay),
            lr=self._options.learning_rate,
            betas=self._options.betas,
            fused=True,
            decoupled_weight_decay=True,
        )

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
        check_checkpoint(checkpoint, self._recipe, dataset, self._stage.folder, self._stage.based_on)
        self._task.model.load_state_dict(checkpoint.part("model"))
        self._averaged.model.load_state_dict(checkpoint.part(AVERAGE))
        self._best.restore(checkpoint)
        for name, optimiser in self._optimisers.items():
            restore_optimiser(optimiser, checkpoint.part(f"optimiser.{name}"))
        self.steps_done = self._saved = checkpoint.step
        self._seconds_before = checkpoint.state["seconds"]
        self._group.require_equal(checkpoint.step, "the step of the newest checkpoint")

    def _validate(self, noise: Noise) -> Mapping[str, Tensor]:
        """Return the figures of the validation items; those that are of single items are made in pieces."""
        items, labels, device = self._validation, self._validation_labels, self._group.device
        at_once = max(1, len(items))
        few = rows_at_once(at_once, math.prod(items.shape[1:]))
        if self._task.criterion is not None and few < at_once:
            at_once = min(few, self._batches.rows)  # which a step has memory for
        parts = []
        for first in range(0, len(items), at_once):
            task, rows = self._averaged, slice(first, min(first + at_once, len(items)))
            if task.classes:
                task = task.given(one_hot(labels[rows], task.classes).to(device))
            parts.append(task.validate(items[rows].to(device), noise))
        if len(parts) == 1:
            return parts[0]
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

    def _average(self, n: int) -> None:
        """Update the exponential moving average of the weights; it spans all steps while those are few.

        Source of that: `num_updates` of TensorFlow's ExponentialMovingAverage.
        """
        decay = min(self._options.ema_decay, (1 + n) / (10 + n))
        with torch.no_grad():
            torch._foreach_lerp_(self._averaged_weights, self._weights, 1 - decay)

    def _diagnose(self) -> None:
        calibrated = self._task.has_calibrated_logits
        self.findings = diagnose(self.log.lines, self._task.criterion, calibrated=calibrated)

    def _log_and_save(self, rate: float) -> None:
        n, options = self.steps_done, self._options
        if not self._group.leads:
            return
        last = n == options.last_step
        if n % options.log_every == 0 or last:
            self.log.write_means(n, rate)
        if n % options.validation_steps == 0 or last:
            # the same noise each time, so that all differences along the run are the model's
            noise = Noise(self._recipe.seed, Noise.VALIDATION, 0, ProcessGroup(device=self._group.device))
            sampled = self._averaged
            if classes := self._averaged.classes:
                sampled = self._averaged.given(in_turn(classes, _SAMPLE_ROWS).to(self._group.device))
            with torch.no_grad():
                samples = sampled.sample(noise, _SAMPLE_ROWS).cpu()
                figures = self._validate(noise)
            self.log.write_validation(n, figures, samples)
            if self._task.criterion is not None:
                bound = figures[self._task.criterion].double().mean().item()
                self._best.offer(n, bound, self._averaged.model.state_dict())
            self._diagnose()
        if n % options.checkpoint_every == 0 and not last:
            self.save()
