"""The small discriminators of the experiments: they map items (B, 1) on the line to logits (B,)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from training.experiments.theory.densities import GRID
from training.losses.gan import discriminator_loss
from training.models.networks import DenseEncoder

HIDDEN = (64, 64)
"""Widths of the hidden layers, each followed by a leaky rectifier."""


class LineDiscriminator:
    """A dense discriminator of items on the line, and its optimiser (Adam)."""

    def __init__(self, seed: int, learning_rate: float, betas: tuple[float, float] = (0.9, 0.999)) -> None:
        """Make an untrained network from the seed, without changing torch's global generator."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self._network: nn.Module = DenseEncoder(1, HIDDEN, 1, gated=False)
        self._optimiser = torch.optim.Adam(self._network.parameters(), learning_rate, betas, fused=True)

    def __call__(self, items: Tensor) -> Tensor:
        """Return the logits (B,) of items (B, 1)."""
        logits: Tensor = self._network(items)
        return logits.squeeze(1)

    def on_grid(self) -> Tensor:
        """Return the logits (N,) on `GRID`, float64, without gradients."""
        with torch.no_grad():
            return self(GRID.float()[:, None]).double()

    def learn(self, real: Tensor, fake: Tensor, penalty: Tensor | None = None) -> None:
        """Do a step on the discriminator's loss for items (B, 1) of each kind, plus a penalty (B,)."""
        logits = self(torch.cat([real, fake]))
        loss = discriminator_loss(logits[: len(real)], logits[len(real) :])
        if penalty is not None:
            loss = loss + penalty
        self._optimiser.zero_grad()
        loss.mean().backward()  # type: ignore[no-untyped-call]
        self._optimiser.step()
