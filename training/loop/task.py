"""What the loop knows of a model: phases, each with per-item terms, and nothing about losses.

A training step runs the phases in order. Each phase updates some of the networks by the mean of its
per-item loss.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from training.loop.distributed import ALONE, ProcessGroup
from training.losses.terms import Terms


class Noise:
    """The random numbers of one training step, a function of (seed, stream, step) alone.

    Nothing is carried from step to step, so a resumed run sees what an uninterrupted one would have seen.
    The first axis of what is drawn is rows; of several processes each sees the rows of its share of the
    batch, which together are those that a single process would have drawn.
    """

    TRAINING, VALIDATION, WEIGHTS, ORDER = range(4)

    def __init__(self, seed: int, stream: int, step: int, group: ProcessGroup = ALONE) -> None:
        self._group = group
        (state,) = np.random.SeedSequence([seed, stream, step]).generate_state(1, np.uint64)
        self._generator = torch.Generator().manual_seed(int(state >> np.uint64(1)))

    def normal(self, *shape: int) -> Tensor:
        """Standard normal float32 of that shape; each call goes on where the last one ended."""
        return self._group.share(torch.randn(self._of_all(shape), generator=self._generator))

    def uniform(self, *shape: int) -> Tensor:
        """Uniform float32 in [0, 1) of that shape."""
        return self._group.share(torch.rand(self._of_all(shape), generator=self._generator))

    def permutation(self, length: int) -> Tensor:
        """The numbers 0 .. length - 1 in random order, int64."""
        return torch.randperm(length, generator=self._generator)

    def seed_torch(self) -> None:
        """Seed torch's global generator, which the initialisation of layers reads."""
        torch.manual_seed(self._generator.initial_seed())

    def _of_all(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return (shape[0] * self._group.size, *shape[1:])


Objective = Callable[[Tensor, Noise, int], Terms]
"""(items (B, *item), noise, step) -> terms."""


@dataclass(frozen=True)
class Rate:
    """A learning rate over the recipe's."""

    ratio: float = 1.0
    """At the first step."""
    growth: float = 1.0
    """The factor by which the ratio grows to the last step, geometrically."""

    def at(self, base: float, share: float) -> float:
        """Where the recipe's is `base` and `share` of the steps, 0 to 1, are done."""
        return base * self.ratio * math.pow(self.growth, share)


@dataclass(frozen=True)
class Phase:
    """One update within a step."""

    name: str
    trains: nn.Module
    """The network whose parameters this phase updates."""
    objective: Objective
    rate: Rate = Rate()
    apart: tuple[tuple[nn.Module, Rate], ...] = ()
    """Parts of that network with a learning rate of their own."""

    def parameter_groups(self) -> list[dict[str, Any]]:
        """What an optimiser updates, as it takes it; the `rate` of each group is a `Rate`."""
        own = {parameter for module, _ in self.apart for parameter in module.parameters()}
        rest = [parameter for parameter in self.trains.parameters() if parameter not in own]
        groups = [(rest, self.rate), *((list(module.parameters()), rate) for module, rate in self.apart)]
        return [{"params": parameters, "rate": rate} for parameters, rate in groups]


class MeanLoss(nn.Module):
    """A phase's mean loss and mean terms, as a module, so that gradients can be averaged over processes."""

    def __init__(self, phase: Phase) -> None:
        super().__init__()
        self.trains = phase.trains
        self._objective = phase.objective

    def forward(self, items: Tensor, noise: Noise, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Means over this process's items."""
        terms = self._objective(items, noise, step)
        return terms.loss.mean(), {name: term.detach().mean() for name, term in terms.report.items()}


class Task(Protocol):
    """A model that can be trained."""

    @property
    def model(self) -> nn.Module:
        """All networks in one module."""
        ...

    def phases(self) -> list[Phase]:
        """The updates of one step, in order."""
        ...

    def check(self, items: Tensor) -> None:
        """Refuse items that the model cannot learn from.

        Raises:
            SupportError: Some value is outside of the likelihood's support.
        """
        ...

    def validate(self, items: Tensor, noise: Noise) -> Mapping[str, Tensor]:
        """Per-item figures (B,) to watch on held-out items, without gradients."""
        ...

    def sample(self, noise: Noise, rows: int) -> Tensor:
        """(rows, *item) from the prior."""
        ...
