"""The training loop: one loop for every model that is a `Step`.

Everything random in step n is a function of (seed, n), and a checkpoint holds all the rest, so a resumed
run equals an uninterrupted one bit for bit on the CPU.
"""

from __future__ import annotations

import copy
import json
import math
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from torch import Tensor, nn

from training.checkpoint import (
    Checkpoint,
    CheckpointError,
    has_checkpoint,
    optimiser_tensors,
    read_checkpoint,
    restore_optimiser,
    write_checkpoint,
)
from training.data import Dataset
from training.gan import GanStep, make_gan
from training.pictures import write_grid
from training.recipe import LoopOptions, Recipe
from training.step import Noise, Step
from training.vae import VaeStep, make_vae

SAMPLE_ROWS = 64
CHECKPOINTS = "checkpoints"
"""Name of the checkpoint folder inside a run's folder."""


class DivergenceError(RuntimeError):
    """A loss or gradient is no longer finite; the message names the step and the phase."""


@dataclass(frozen=True)
class Outcome:
    """How a call of `train` ended."""

    steps: int
    """Steps done in total."""
    interrupted: bool
    """Whether SIGINT ended it; the checkpoint then holds exactly `steps` steps."""


def make_step(recipe: Recipe, item_shape: tuple[int, int, int]) -> Step:
    """The recipe's model with weights initialised from its seed."""
    with torch.random.fork_rng(devices=[]):
        Noise(recipe.seed, Noise.WEIGHTS, 0).seed_torch()
        if recipe.vae is not None:
            return VaeStep(make_vae(recipe, item_shape), recipe.vae)
        assert recipe.gan is not None
        return GanStep(make_gan(recipe, item_shape), recipe.gan)


def train(
    recipe: Recipe, dataset: Dataset, folder: Path, *, resume: bool = False, quiet: bool = False
) -> Outcome:
    """Train a recipe's model, writing `metrics.jsonl`, `samples/` and `checkpoints/` into `folder`.

    SIGINT (Ctrl-C) ends the current step, saves a checkpoint and returns.

    Args:
        recipe: What to train.
        dataset: The recipe's data.
        folder: The run's folder, made if missing.
        resume: Go on from the newest checkpoint, if there is one; else a folder with a checkpoint is refused.
        quiet: No progress bar.

    Raises:
        CheckpointError: The folder holds a checkpoint and `resume` is false, or it belongs to another recipe.
        DivergenceError: A loss or gradient stopped being finite.
    """
    torch.set_num_threads(recipe.loop.threads)
    run = _Run(recipe, dataset, folder, resume)
    with _interrupt_flag() as interrupted, _progress(quiet) as progress:
        task = progress.add_task(recipe.name, total=recipe.loop.steps, completed=run.steps_done, terms="")
        while run.steps_done < recipe.loop.steps and not interrupted.is_set():
            run.advance()
            progress.update(task, completed=run.steps_done, terms=run.latest)
        run.save()
    return Outcome(run.steps_done, interrupted=run.steps_done < recipe.loop.steps)


def restore_averaged(recipe: Recipe, dataset: Dataset, folder: Path) -> tuple[Step, Checkpoint]:
    """The model with the averaged weights of the newest checkpoint in a run's folder, in evaluation mode.

    Raises:
        CheckpointError: There is no checkpoint, or it belongs to another recipe.
    """
    checkpoint = read_checkpoint(folder / CHECKPOINTS)
    _check_recipe(recipe, checkpoint)
    step = make_step(recipe, dataset.item_shape)
    step.model.load_state_dict(checkpoint.part("average"))
    step.model.eval().requires_grad_(False)
    return step, checkpoint


class _Run:
    """The state of one training run, advanced a step at a time."""

    def __init__(self, recipe: Recipe, dataset: Dataset, folder: Path, resume: bool) -> None:
        self.steps_done = 0
        self.latest = ""
        self._recipe, self._options, self._folder = recipe, recipe.loop, folder
        self._dynamic = recipe.data.binarise == "dynamic"
        self._train = torch.from_numpy(dataset.images["train"])
        self._validation = torch.from_numpy(dataset.images["validation"][: self._options.validation_rows])
        self._rows = min(self._options.batch_rows, len(self._train))
        self._order = (-1, torch.empty(0, dtype=torch.int64))
        self._step = make_step(recipe, dataset.item_shape)
        self._averaged = copy.deepcopy(self._step)
        self._averaged.model.eval().requires_grad_(False)
        self._phases = self._step.phases()
        self._optimisers = {
            phase.name: torch.optim.Adam(
                phase.trains.parameters(),
                lr=self._options.learning_rate,
                betas=self._options.betas,
                fused=True,
            )
            for phase in self._phases
        }
        self._sums: dict[str, float] = {}
        self._interval_steps, self._interval_start = 0, time.monotonic()
        (folder / "samples").mkdir(parents=True, exist_ok=True)
        self._resume_or_refuse(resume)
        kept = _lines_up_to(folder / "metrics.jsonl", self.steps_done)
        (folder / "metrics.jsonl").write_text(kept, encoding="utf-8")
        (folder / "recipe.json").write_text(recipe.model_dump_json(indent=2), encoding="utf-8")

    def advance(self) -> None:
        """Do one step, and what is due after it."""
        n = self.steps_done
        noise = Noise(self._recipe.seed, Noise.TRAINING, n)
        items = self._batch(n, noise)
        rate = learning_rate(self._options, n)
        for phase in self._phases:
            for other in self._phases:
                other.trains.requires_grad_(other is phase)
            terms = phase.objective(items, noise, n)
            optimiser = self._optimisers[phase.name]
            for group in optimiser.param_groups:
                group["lr"] = rate * phase.learning_rate_ratio
            optimiser.zero_grad(set_to_none=True)
            loss = terms.loss.mean()
            loss.backward()  # type: ignore[no-untyped-call]
            norm = nn.utils.clip_grad_norm_(phase.trains.parameters(), self._options.gradient_clip)
            _check_finite(loss, norm, n, phase.name)
            optimiser.step()
            self._add({name: term.mean().item() for name, term in terms.report.items()})
            self._add({f"{phase.name}_gradient_norm": norm.item()})
        self._average(n)
        self.steps_done = n + 1
        self._interval_steps += 1
        self._report(rate)

    def save(self) -> None:
        """Write a checkpoint of exactly this state."""
        tensors = _named("model", self._step.model.state_dict()) | _named(
            "average", self._averaged.model.state_dict()
        )
        for name, optimiser in self._optimisers.items():
            tensors |= _named(f"optimiser.{name}", optimiser_tensors(optimiser))
        state = {"recipe": self._recipe.model_dump(mode="json"), "libraries": {"torch": torch.__version__}}
        write_checkpoint(self._folder / CHECKPOINTS, Checkpoint(self.steps_done, tensors, state))

    def _resume_or_refuse(self, resume: bool) -> None:
        checkpoints = self._folder / CHECKPOINTS
        if not has_checkpoint(checkpoints):
            return
        if not resume:
            raise CheckpointError(
                f"{checkpoints} already holds a checkpoint; pass --resume to go on from it, "
                "or remove the run's folder to start anew"
            )
        checkpoint = read_checkpoint(checkpoints)
        _check_recipe(self._recipe, checkpoint)
        self._step.model.load_state_dict(checkpoint.part("model"))
        self._averaged.model.load_state_dict(checkpoint.part("average"))
        for name, optimiser in self._optimisers.items():
            restore_optimiser(optimiser, checkpoint.part(f"optimiser.{name}"))
        self.steps_done = checkpoint.step

    def _batch(self, n: int, noise: Noise) -> Tensor:
        epoch, position = divmod(n, len(self._train) // self._rows)
        if self._order[0] != epoch:
            order = Noise(self._recipe.seed, Noise.ORDER, epoch).permutation(len(self._train))
            self._order = (epoch, order)
        items = self._train[self._order[1][position * self._rows : (position + 1) * self._rows]]
        if self._dynamic:
            items = (noise.uniform(*items.shape) < items).float()
        return items

    def _average(self, n: int) -> None:
        """Exponential moving average of the weights, over all steps so far while those are few."""
        decay = min(self._options.ema_decay, (1 + n) / (10 + n))
        averaged: list[Tensor] = list(self._averaged.model.parameters())
        current = [parameter.detach() for parameter in self._step.model.parameters()]
        torch._foreach_lerp_(averaged, current, 1 - decay)

    def _add(self, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            total, count = self._sums.get(name, 0.0), self._sums.get(f"#{name}", 0.0)
            self._sums[name], self._sums[f"#{name}"] = total + value, count + 1

    def _report(self, rate: float) -> None:
        n, options = self.steps_done, self._options
        last = n == options.steps
        if n % options.log_every == 0 or last:
            seconds = time.monotonic() - self._interval_start
            means = {
                name: value / self._sums[f"#{name}"]
                for name, value in self._sums.items()
                if not name.startswith("#")
            }
            speed = self._interval_steps * self._rows / max(seconds, 1e-9)
            self._log({"step": n, "learning_rate": rate, "images_per_second": round(speed, 1), **means})
            self.latest = "  ".join(
                f"{name} {value:.4g}" for name, value in means.items() if "norm" not in name
            )
            self._sums, self._interval_steps, self._interval_start = {}, 0, time.monotonic()
        if n % options.validate_every == 0 or last:
            self._validate()
        if n % options.checkpoint_every == 0 and not last:
            self.save()

    def _validate(self) -> None:
        # The same noise each time: differences along the run are the model's.
        noise = Noise(self._recipe.seed, Noise.VALIDATION, 0)
        with torch.no_grad():
            images = self._averaged.sample(noise, SAMPLE_ROWS).numpy()
            figures = self._averaged.validate(self._validation, noise)
        write_grid(self._folder / "samples" / f"step-{self.steps_done:08d}.png", images)
        self._log(
            {"step": self.steps_done, **{f"validation_{k}": v.mean().item() for k, v in figures.items()}}
        )

    def _log(self, line: Mapping[str, Any]) -> None:
        with (self._folder / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def learning_rate(options: LoopOptions, n: int) -> float:
    """Learning rate of step n (from 0): linear warm-up, then half a cosine down to the final ratio."""
    if n < options.warmup_steps:
        return options.learning_rate * (n + 1) / options.warmup_steps
    share = (n - options.warmup_steps) / max(1, options.steps - options.warmup_steps)
    floor = options.final_learning_rate_ratio
    return options.learning_rate * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * share)))


def _check_finite(loss: Tensor, norm: Tensor, n: int, phase: str) -> None:
    if not (math.isfinite(loss.item()) and math.isfinite(norm.item())):
        raise DivergenceError(
            f"step {n}, phase {phase}: the loss is {loss.item()} and its gradient norm {norm.item()}; "
            "no weights were changed by it. Lower loop.learning_rate or loop.gradient_clip and start anew"
        )


def _check_recipe(recipe: Recipe, checkpoint: Checkpoint) -> None:
    """Refuse another recipe than the checkpoint's: it would make a model that no recipe describes."""
    ours, theirs = _flat(recipe.model_dump(mode="json")), _flat(checkpoint.state["recipe"])
    ours.pop("title"), theirs.pop("title", None)
    different = [key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key)]
    trained = sorted(key for key in different if not key.startswith(("evaluation.", "calibration.")))
    if trained:
        changes = ", ".join(f"{key} was {theirs.get(key)!r}, now {ours.get(key)!r}" for key in trained)
        raise CheckpointError(
            f"the checkpoint was written under another recipe ({changes}); "
            "use that recipe, or another run folder"
        )


def _flat(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in table.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
    return flat


def _named(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


def _lines_up_to(path: Path, step: int) -> str:
    if not path.exists():
        return ""
    with path.open(encoding="utf-8") as file:
        return "".join(line for line in file if json.loads(line)["step"] <= step)


@contextmanager
def _interrupt_flag() -> Iterator[threading.Event]:
    """An event set by SIGINT; a second SIGINT acts as usual. Outside the main thread nothing is caught."""
    flag = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield flag
        return
    previous = signal.getsignal(signal.SIGINT)

    def handle(_number: int, _frame: FrameType | None) -> None:
        flag.set()
        signal.signal(signal.SIGINT, previous)

    signal.signal(signal.SIGINT, handle)
    try:
        yield flag
    finally:
        signal.signal(signal.SIGINT, previous)


@contextmanager
def _progress(quiet: bool) -> Iterator[Progress]:
    columns = (
        TextColumn("[bold]{task.description}"),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[terms]}"),
    )
    with Progress(*columns, console=Console(stderr=True), disable=quiet) as progress:
        yield progress
