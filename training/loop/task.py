"""The protocol `Task`: a model that the loop can train, as phases with per-item losses.

A training step runs the phases in order; each updates some networks by the mean of its per-item loss.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, Self

from torch import Tensor, nn

from service.format.manifest import Support
from training.loop.noise import Noise
from training.losses.terms import Terms


@dataclass(frozen=True)
class Rate:
    """A learning rate as a multiple of the recipe's."""

    ratio: float = 1.0
    """The multiple at the first step."""
    growth: float = 1.0
    """The factor by which the multiple grows until the last step, geometrically."""

    def at(self, base: float, share: float) -> float:
        """Return the learning rate if the recipe's is `base` and a share of the steps, 0 to 1, is done."""
        return base * self.ratio * math.pow(self.growth, share)


@dataclass(frozen=True)
class Phase:
    """One update within a step."""

    name: str
    trains: nn.Module
    """The network whose parameters this phase updates."""
    objective: Callable[[Tensor, Noise, int], Terms]
    """Maps items (B, *item), noise and the step to terms."""
    rate: Rate = Rate()
    apart: tuple[tuple[nn.Module, Rate], ...] = ()
    """Parts of that network with their own learning rates."""
    given: Callable[[Tensor], Callable[[Tensor, Noise, int], Terms]] | None = None
    """Maps classes, (B, C) one-hot, to the objective of items of these; None without a class condition."""

    def parameter_groups(self, weight_decay: float = 0.0) -> list[dict[str, Any]]:
        """Return parameter groups for an optimiser; the `rate` of each group is a `Rate`.

        Only weights decay: biases and scales, which have one axis, do not.
        """
        own = {parameter for module, _ in self.apart for parameter in module.parameters()}
        rest = [parameter for parameter in self.trains.parameters() if parameter not in own]
        groups = [(rest, self.rate), *((list(module.parameters()), rate) for module, rate in self.apart)]
        if not weight_decay:
            return [{"params": parameters, "rate": rate} for parameters, rate in groups]
        return [
            {"params": some, "rate": rate, "weight_decay": decay}
            for parameters, rate in groups
            for some, decay in (
                ([each for each in parameters if each.ndim > 1], weight_decay),
                ([each for each in parameters if each.ndim <= 1], 0.0),
            )
        ]


class MeanLoss(nn.Module):
    """A phase's mean loss and mean terms as a module, so that gradients can be averaged over processes."""

    def __init__(self, phase: Phase) -> None:
        super().__init__()
        self.trains = phase.trains
        self._phase = phase

    def forward(
        self, items: Tensor, noise: Noise, step: int, labels: Tensor | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the mean loss and the mean terms over this process's items, of those classes if there are.

        Labels are (B, C), one-hot.
        """
        objective = self._phase.objective
        if labels is not None:
            assert self._phase.given is not None, "only a conditional task has labels"
            objective = self._phase.given(labels)
        terms = objective(items, noise, step)
        return terms.loss.mean(), {name: term.detach().mean() for name, term in terms.report.items()}


class Task(Protocol):
    """A model that can be trained."""

    criterion: str | None
    """The validation figure whose best weights are published, greater being better; None for the newest."""
    has_calibrated_logits: bool
    """True for a GAN whose logits estimate log density ratios of single items."""
    classes: int
    """The number C of classes that are a condition of the model; 0 without one."""

    def given(self, labels: Tensor) -> Self:
        """Return the task of rows of those classes, (B, C) one-hot; only if there is a class condition."""

    @property
    def model(self) -> nn.Module:
        """All networks in one module."""

    @property
    def support(self) -> Support:
        """The values that items may have."""

    def phases(self) -> list[Phase]:
        """Return the updates of one step, in order."""

    def check(self, items: Tensor) -> None:
        """Refuse items with values outside the likelihood's support, by a SupportError."""

    def validate(self, items: Tensor, noise: Noise) -> Mapping[str, Tensor]:
        """Return per-item figures (B,) of held-out items, without gradients."""

    def sample(self, noise: Noise, rows: int) -> Tensor:
        """Draw items (rows, *item) from the model."""
