"""The weights that a run publishes: those with the best bound on held-out items."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from training.loop.checkpoint import BEST, Checkpoint


class BestWeights:
    """The averaged weights of the validation with the highest bound so far.

    Source: early stopping as in Goodfellow et al. 2016, "Deep Learning", algorithm 7.1.
    """

    def __init__(self) -> None:
        self.step = 0
        """The step of that validation; 0 before the first."""
        self.bound = -math.inf
        """Its mean bound, in nats per item."""
        self.validations_since = 0
        """The number of validations since, none of them better."""
        self._weights: dict[str, Tensor] = {}

    def offer(self, step: int, bound: float, weights: Mapping[str, Tensor]) -> None:
        """Keep a copy of these weights if their bound is higher than all before; NaN never is."""
        if not bound > self.bound:
            self.validations_since += 1
            return
        self.step, self.bound, self.validations_since = step, bound, 0
        self._weights = {name: tensor.detach().clone() for name, tensor in weights.items()}

    def restore(self, checkpoint: Checkpoint) -> None:
        """Continue from a checkpoint; from one without best weights the search begins anew."""
        state = checkpoint.state.get(BEST)
        if state is not None:
            self._weights = checkpoint.part(BEST)
            self.step, self.bound = state["step"], state["bound"]
            self.validations_since = state["validations_since"]

    def state(self) -> dict[str, Any] | None:
        """Return the entry of a checkpoint's state; None before the first validation."""
        if not self._weights:
            return None
        return {"step": self.step, "bound": self.bound, "validations_since": self.validations_since}

    def tensors(self) -> Mapping[str, Tensor]:
        """Return the weights for a checkpoint; none before the first validation."""
        return self._weights
