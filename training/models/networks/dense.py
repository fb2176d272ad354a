"""Fully connected networks, for small items."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

SLOPE = 0.2
"""Slope of the leaky rectifiers on the negative side, where a gradient of 0 would stop learning."""


class GatedLinear(nn.Module):
    """a * sigmoid(b), with a and b linear in the input (B, F) -> (B, G)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, 2 * outputs)
        # the default initialisation is too small: a gate at rest halves the signal
        nn.init.xavier_normal_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)
        self._outputs = outputs

    def forward(self, values: Tensor) -> Tensor:
        """(B, F) -> (B, G)."""
        both = self.linear(values)
        gated: Tensor = both[:, : self._outputs] * torch.sigmoid(both[:, self._outputs :])
        return gated


class Network(nn.Module):
    """Layers in sequence, the last of which is linear."""

    in_bfloat16 = False
    """True to multiply in bfloat16 while it is trained; weights, inputs and outputs stay float32."""

    def __init__(self, layers: nn.Sequential) -> None:
        super().__init__()
        self.layers = layers

    def forward(self, values: Tensor) -> Tensor:
        """Apply the layers to values (B, ...)."""
        return self._apply_layers(self.layers, values)

    def features(self, values: Tensor) -> Tensor:
        """Return the last hidden layer for values (B, ...)."""
        return self._apply_layers(self.layers[:-1], values)

    def _apply_layers(self, layers: nn.Module, values: Tensor) -> Tensor:
        outputs: Tensor
        if self.in_bfloat16:
            with torch.autocast(values.device.type, torch.bfloat16):
                outputs = layers(values)
            return outputs.float()
        outputs = layers(values)
        return outputs


def dense_layers(widths: Sequence[int], gated: bool) -> list[nn.Module]:
    """Make layers between the widths: gated ones, or linear ones each followed by a leaky rectifier."""
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(widths):
        if gated:
            layers.append(GatedLinear(before, after))
        else:
            layers += [nn.Linear(before, after), nn.LeakyReLU(SLOPE)]
    return layers


def initialise_orthogonally(network: nn.Module) -> None:
    """Give linear layers orthogonal weights that keep a signal's size, and zero biases.

    Otherwise the signal vanishes in many leaky rectifiers at the start. Source: Saxe et al. 2014,
    arXiv:1312.6120, section 3; the gain: He et al. 2015, arXiv:1502.01852, equation 15.
    """
    for layer in network.modules():
        if isinstance(layer, nn.Linear):
            nn.init.orthogonal_(layer.weight, math.sqrt(2 / (1 + SLOPE**2)))
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


class Fourier(nn.Module):
    """Adds the sines and cosines of every value at N frequencies to rows: (B, F) -> (B, F (1 + 2 N)).

    Source: Mildenhall et al. 2020, "NeRF", arXiv:2003.08934, section 5.1.
    """

    frequencies: Tensor
    """(N,), radians per unit."""

    def __init__(self, count: int, lowest: float, highest: float) -> None:
        """Use `count` frequencies from `lowest` to `highest` radians per unit, even on a log scale."""
        super().__init__()
        self.register_buffer("frequencies", torch.logspace(math.log10(lowest), math.log10(highest), count))

    def forward(self, rows: Tensor) -> Tensor:
        """(B, F) -> (B, F (1 + 2 N))."""
        phases = (rows.unsqueeze(2) * self.frequencies).flatten(1)
        return torch.cat([rows, torch.sin(phases), torch.cos(phases)], dim=1)

    def width(self, values: int) -> int:
        """Return the number of outputs for so many values."""
        return values * (1 + 2 * len(self.frequencies))


class DenseEncoder(Network):
    """Items (B, ...) -> (B, F)."""

    def __init__(
        self, inputs: int, hidden: Sequence[int], outputs: int, gated: bool, fourier: Fourier | None = None
    ) -> None:
        """Make a network of `inputs` values per item, to which `fourier`, if given, adds features."""
        seen = [] if fourier is None else [fourier]
        widths = (inputs if fourier is None else fourier.width(inputs), *hidden)
        layers = [*seen, *dense_layers(widths, gated), nn.Linear(widths[-1], outputs)]
        super().__init__(nn.Sequential(nn.Flatten(), *layers))


class DenseDecoder(Network):
    """Latents (B, D) -> (B, *item_shape), unbounded."""

    def __init__(self, latent: int, item_shape: tuple[int, ...], hidden: Sequence[int], gated: bool) -> None:
        widths = (latent, *reversed(hidden))
        layers = [*dense_layers(widths, gated), nn.Linear(widths[-1], math.prod(item_shape))]
        super().__init__(nn.Sequential(*layers, nn.Unflatten(1, item_shape)))
