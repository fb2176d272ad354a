"""Fully connected networks, for small items."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

SLOPE = 0.2
"""Slope of the leaky rectifiers on the negative side: gradients never vanish entirely."""


class GatedLinear(nn.Module):
    """a * sigmoid(b), with a and b linear in the input (B, F) -> (B, G)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, 2 * outputs)
        # Half of the signal passes a gate at rest, which the usual initialisation would let fade.
        nn.init.xavier_normal_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)
        self._outputs = outputs

    def forward(self, values: Tensor) -> Tensor:
        """(B, F) -> (B, G)."""
        both = self.linear(values)
        gated: Tensor = both[:, : self._outputs] * torch.sigmoid(both[:, self._outputs :])
        return gated


def dense_layers(widths: Sequence[int], gated: bool) -> list[nn.Module]:
    """Layers between the widths: gated ones, or linear ones each followed by a leaky rectifier."""
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(widths):
        if gated:
            layers.append(GatedLinear(before, after))
        else:
            layers += [nn.Linear(before, after), nn.LeakyReLU(SLOPE)]
    return layers


class DenseEncoder(nn.Module):
    """Items (B, ...) -> (B, F)."""

    def __init__(self, inputs: int, hidden: Sequence[int], outputs: int, gated: bool) -> None:
        super().__init__()
        widths = (inputs, *hidden)
        self.layers = nn.Sequential(
            nn.Flatten(), *dense_layers(widths, gated), nn.Linear(widths[-1], outputs)
        )

    def forward(self, items: Tensor) -> Tensor:
        """(B, ...) -> (B, F)."""
        features: Tensor = self.layers(items)
        return features


class DenseDecoder(nn.Module):
    """Latents (B, D) -> (B, *item_shape), unbounded."""

    def __init__(self, latent: int, item_shape: tuple[int, ...], hidden: Sequence[int], gated: bool) -> None:
        super().__init__()
        widths = (latent, *reversed(hidden))
        self.layers = nn.Sequential(
            *dense_layers(widths, gated),
            nn.Linear(widths[-1], math.prod(item_shape)),
            nn.Unflatten(1, item_shape),
        )

    def forward(self, latents: Tensor) -> Tensor:
        """(B, D) -> (B, *item_shape)."""
        items: Tensor = self.layers(latents)
        return items
