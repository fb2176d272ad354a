"""Fully connected networks, for small items."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from torch import Tensor, nn

SLOPE = 0.2
"""Slope of the leaky rectifiers on the negative side: gradients never vanish entirely."""


def dense_layers(widths: Sequence[int]) -> list[nn.Module]:
    """Linear layers between the widths, each followed by a leaky rectifier."""
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(widths):
        layers += [nn.Linear(before, after), nn.LeakyReLU(SLOPE)]
    return layers


class DenseEncoder(nn.Module):
    """Items (B, ...) -> (B, F)."""

    def __init__(self, inputs: int, hidden: Sequence[int], outputs: int) -> None:
        super().__init__()
        widths = (inputs, *hidden)
        self.layers = nn.Sequential(nn.Flatten(), *dense_layers(widths), nn.Linear(widths[-1], outputs))

    def forward(self, items: Tensor) -> Tensor:
        """(B, ...) -> (B, F)."""
        features: Tensor = self.layers(items)
        return features


class DenseDecoder(nn.Module):
    """Latents (B, D) -> (B, C, H, W), unbounded."""

    def __init__(self, latent: int, item_shape: tuple[int, int, int], hidden: Sequence[int]) -> None:
        super().__init__()
        widths = (latent, *reversed(hidden))
        self.layers = nn.Sequential(
            *dense_layers(widths),
            nn.Linear(widths[-1], math.prod(item_shape)),
            nn.Unflatten(1, item_shape),
        )

    def forward(self, latents: Tensor) -> Tensor:
        """(B, D) -> (B, C, H, W)."""
        items: Tensor = self.layers(latents)
        return items
