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
    """Rows x (B, F) with the sines and cosines of every value at N frequencies: (B, F (1 + 2 N)).

    Source: Mildenhall et al. 2020, "NeRF", arXiv:2003.08934, section 5.1.
    """

    frequencies: Tensor
    """(N,), radians per unit."""

    def __init__(self, count: int, lowest: float, highest: float) -> None:
        """See each value at `count` frequencies between those two, evenly on a log-scale."""
        super().__init__()
        self.register_buffer("frequencies", torch.logspace(math.log10(lowest), math.log10(highest), count))

    def forward(self, rows: Tensor) -> Tensor:
        """(B, F) -> (B, F (1 + 2 N))."""
        phases = (rows.unsqueeze(2) * self.frequencies).flatten(1)
        return torch.cat([rows, torch.sin(phases), torch.cos(phases)], dim=1)

    def width(self, values: int) -> int:
        """How many numbers it makes of so many values."""
        return values * (1 + 2 * len(self.frequencies))


class DenseEncoder(nn.Module):
    """Items (B, ...) -> (B, F)."""

    def __init__(
        self, inputs: int, hidden: Sequence[int], outputs: int, gated: bool, fourier: Fourier | None = None
    ) -> None:
        """Make a network of `inputs` values an item, which `fourier`, if given, adds its features to."""
        super().__init__()
        seen = [] if fourier is None else [fourier]
        widths = (inputs if fourier is None else fourier.width(inputs), *hidden)
        self.layers = nn.Sequential(
            nn.Flatten(), *seen, *dense_layers(widths, gated), nn.Linear(widths[-1], outputs)
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
