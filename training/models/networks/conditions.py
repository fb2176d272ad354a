"""The class of an item as a further input of a network.

Shapes: B rows, C classes, F features; labels (B, C) are one-hot.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from training.models.networks.dense import Network


class WithClass(nn.Module):
    """A network that sees the class of each row beside its values.

    Beside the values of a flat row stands its one-hot label; beside the channels of a picture stands one
    more, a picture of the class, which is learned. Source: Mirza & Osindero 2014, "Conditional generative
    adversarial nets", arXiv:1411.1784, section 3.2; for a VAE Sohn et al. 2015, "Learning structured output
    representation using deep conditional generative models", NeurIPS 28, section 4.
    """

    def __init__(
        self, network: nn.Module, classes: int, sides: tuple[int, ...] = (), first: nn.Module | None = None
    ) -> None:
        """Wrap a network of rows that are as much longer as `beside` says.

        Args:
            network: Takes rows (B, F + C), or pictures (B, channels + 1, *sides).
            classes: C.
            sides: Height and width of pictures; empty for flat rows.
            first: Is applied to the values before the class joins them.
        """
        super().__init__()
        self.first = nn.Identity() if first is None else first
        self.network = network
        self._sides = sides
        self.picture = nn.Linear(classes, math.prod(sides), bias=False) if sides else None

    def forward(self, values: Tensor, labels: Tensor) -> Tensor:
        """Apply the network to values (B, F) or (B, channels, *sides), and labels (B, C)."""
        if self.picture is not None:
            labels = self.picture(labels).unflatten(1, (1, *self._sides))
        outputs: Tensor = self.network(torch.cat([self.first(values), labels], dim=1))
        return outputs


def beside(classes: int, sides: tuple[int, ...] = ()) -> int:
    """Return the number of features, or of channels of pictures, that the class of a row takes."""
    return 1 if classes and sides else classes


class Projection(nn.Module):
    """A network of items to one logit, to which each class adds a linear function of the last hidden layer.

    Source: Miyato & Koyama 2018, "cGANs with projection discriminator", arXiv:1802.05637, equation 3.
    """

    def __init__(self, network: Network, classes: int) -> None:
        super().__init__()
        self.network = network
        last = network.layers[-1]
        assert isinstance(last, nn.Linear), "a network ends with a linear layer"
        self.weights = nn.Linear(classes, last.in_features, bias=False)

    def forward(self, values: Tensor, labels: Tensor) -> Tensor:
        """Return logits (B, 1) for values (B, ...) and labels (B, C)."""
        features = self.features(values)
        projected = features * self.weights(labels)
        # a sum as a product: ONNX Runtime's ReduceSum depends on a row's place in the batch
        logits: Tensor = self.network.layers[-1](features) + projected @ projected.new_ones(
            projected.shape[1], 1
        )
        return logits

    def features(self, values: Tensor) -> Tensor:
        """Return the last hidden layer for values (B, ...): (B, F). It is the same for all classes."""
        return self.network.features(values)
