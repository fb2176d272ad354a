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


def initialise_orthogonally(network: nn.Module) -> None:
    """Give linear layers orthogonal weights that keep a signal's size, and no biases.

    Without it nothing passes through many leaky rectifiers at the start. Source: Saxe et al. 2014,
    arXiv:1312.6120, section 3; the gain: He et al. 2015, arXiv:1502.01852, equation 15.
    """
    for layer in network.modules():
        if isinstance(layer, nn.Linear):
            nn.init.orthogonal_(layer.weight, math.sqrt(2 / (1 + SLOPE**2)))
            nn.init.zeros_(layer.bias)


class Fourier(nn.Module):
    """Rows x (B, F) with the sines and cosines of N random projections: (B, F + 2 N).

    Source: Tancik et al. 2020, "Fourier features let networks learn high frequency functions in low
    dimensional domains", arXiv:2006.10739, section 4.
    """

    directions: Tensor

    def __init__(self, inputs: int, count: int, frequencies: tuple[float, float]) -> None:
        """Draw `count` directions, with frequencies between those two, evenly on a log-scale."""
        super().__init__()
        lowest, highest = frequencies
        scales = torch.logspace(math.log10(lowest), math.log10(highest), count)
        self.register_buffer("directions", torch.randn(inputs, count) * scales)

    def forward(self, rows: Tensor) -> Tensor:
        """(B, F) -> (B, F + 2 N)."""
        phases = rows @ self.directions
        return torch.cat([rows, torch.sin(phases), torch.cos(phases)], dim=1)


class DenseEncoder(nn.Module):
    """Items (B, ...) -> (B, F)."""

    def __init__(
        self, inputs: int, hidden: Sequence[int], outputs: int, gated: bool, fourier: Fourier | None = None
    ) -> None:
        """Make a network of `inputs` values an item, which `fourier`, if given, adds its features to."""
        super().__init__()
        added = [] if fourier is None else [fourier]
        widths = (inputs + sum(2 * one.directions.shape[1] for one in added), *hidden)
        self.layers = nn.Sequential(
            nn.Flatten(), *added, *dense_layers(widths, gated), nn.Linear(widths[-1], outputs)
        )

    def features(self, items: Tensor) -> Tensor:
        """What the last hidden layer makes of items (B, ...): (B, its width)."""
        features: Tensor = self.layers[:-1](items)
        return features

    def forward(self, items: Tensor) -> Tensor:
        """(B, ...) -> (B, F)."""
        outputs: Tensor = self.layers(items)
        return outputs


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
