"""Convolutional networks with residual blocks at every size, for details that plain ones blur or tear.

Each level halves or doubles the size with a 4x4 kernel and stride 2, as in the plain convolutional networks,
and blocks refine the pictures at that size. There are no normalisation layers, so that a row never depends
on its batch-mates; the blocks begin as the identity instead. Sources: He et al. 2016, arXiv:1603.05027; for
GANs without normalisation Huang et al. 2024, "R3GAN", arXiv:2501.05441, section 3.2.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from torch import Tensor, nn

from training.models.networks.convolutional import channels_last, inner_size
from training.models.networks.dense import SLOPE, Network, dense_layers


class ResidualBlock(nn.Module):
    """Adds to pictures (B, C, H, W) what two 3x3 convolutions make of them."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.last = nn.Conv2d(channels, channels, kernel_size=3, padding=1)
        self.first = nn.Conv2d(channels, channels, kernel_size=3, padding=1)
        self.bend = nn.LeakyReLU(SLOPE)

    def forward(self, pictures: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        added: Tensor = self.last(self.bend(self.first(self.bend(pictures))))
        return pictures + added


class ResidualEncoder(Network):
    """Items (B, C, H, W) -> (B, F): at each size a stride-2 convolution and blocks, then dense layers."""

    def __init__(
        self,
        item_shape: tuple[int, ...],
        channels: Sequence[int],
        hidden: Sequence[int],
        blocks: int,
        outputs: int,
    ) -> None:
        height, width = inner_size(item_shape, len(channels))
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise((item_shape[0], *channels)):
            layers.append(nn.Conv2d(before, after, kernel_size=4, stride=2, padding=1))
            layers.append(_refined(after, blocks))
        widths = (channels[-1] * height * width, *hidden)
        layers += [nn.Flatten(), *dense_layers(widths, gated=False)]
        _initialise(layers)
        # a posterior or a logit begins near 0: the last layer keeps torch's smaller weights
        super().__init__(channels_last([*layers, nn.Linear(widths[-1], outputs)]))


class ResidualDecoder(Network):
    """Latents (B, D) -> (B, C, H, W), unbounded: dense layers, then blocks and transposed convolutions."""

    def __init__(
        self,
        latent: int,
        item_shape: tuple[int, ...],
        channels: Sequence[int],
        hidden: Sequence[int],
        blocks: int,
    ) -> None:
        height, width = inner_size(item_shape, len(channels))
        widths = (latent, *reversed(hidden), channels[-1] * height * width)
        layers = dense_layers(widths, gated=False)[:-1]
        layers.append(nn.Unflatten(1, (channels[-1], height, width)))
        for before, after in itertools.pairwise((*reversed(channels), item_shape[0])):
            layers.append(_refined(before, blocks))
            layers.append(nn.ConvTranspose2d(before, after, kernel_size=4, stride=2, padding=1))
        _initialise(layers)
        super().__init__(channels_last(layers))


def _refined(channels: int, blocks: int) -> nn.Sequential:
    """Return blocks with the rectifier that stands alone in their place in a plain network."""
    return nn.Sequential(*(ResidualBlock(channels) for _ in range(blocks)), nn.LeakyReLU(SLOPE))


def _initialise(layers: Sequence[nn.Module]) -> None:
    """Give layers weights that keep a signal's size, and let residual blocks add nothing at first.

    Sources: He et al. 2015, arXiv:1502.01852, equation 15; Zhang et al. 2019, "Fixup", arXiv:1901.09321.
    """
    for layer in (inner for outer in layers for inner in outer.modules()):
        if isinstance(layer, nn.Linear):
            seen = float(layer.in_features)
        elif isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            seen = layer.in_channels * math.prod(layer.kernel_size)
            if isinstance(layer, nn.ConvTranspose2d):  # whose outputs see every stride-th place of a kernel
                seen /= math.prod(layer.stride)
        else:
            continue
        nn.init.normal_(layer.weight, std=math.sqrt(2 / (1 + SLOPE**2) / seen))
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
    for block in (inner for outer in layers for inner in outer.modules()):
        if isinstance(block, ResidualBlock):
            nn.init.zeros_(block.last.weight)
