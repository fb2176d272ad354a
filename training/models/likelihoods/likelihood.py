"""What every likelihood p(x | parameters) promises, and the sum they share."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from service.format.manifest import Support

_LANES = 16
"""The most float32 numbers that a processor takes at once."""


class SupportError(ValueError):
    """Items lie outside the support of the likelihood that should score them."""


class Likelihood(Protocol):
    """What a VAE needs to know of p(x | parameters), in nats per item.

    Shapes: B rows, P parameters per value; items (B, C, H, W) or (B, F), float32; parameters the same with P
    times as many channels or features, one parameter after the other. All but `check_support` is free of
    data-dependent control flow, so it exports to ONNX as it stands.
    """

    name: str
    support: Support
    parameters_per_value: int
    """P, how many numbers the decoder returns for every value of an item."""

    def bounded(self, outputs: Tensor) -> Tensor:
        """The parameters, of a network's unbounded outputs of the same shape."""
        ...

    def check_support(self, items: Tensor) -> None:
        """Raise SupportError if any value of `items` has no likelihood."""
        ...

    def log_prob(self, parameters: Tensor, items: Tensor) -> Tensor:
        """Log p(items | parameters) in nats per item, (B,)."""
        ...

    def value_log_prob(self, parameters: Tensor, items: Tensor) -> Tensor:
        """What each value adds to `log_prob`, in nats, shaped like items."""
        ...

    def best_log_prob(self, items: Tensor) -> Tensor | None:
        """The most that `value_log_prob` could be, by the parameters that suit each value best.

        That is the log-likelihood of a perfect reconstruction, value by value. None where it says nothing:
        where the likelihood is a density that only a bound on its scale keeps from growing for ever.
        """
        ...

    def mean(self, parameters: Tensor) -> Tensor:
        """E[x | parameters], shaped like items."""
        ...

    def residual(self, parameters: Tensor, items: Tensor) -> Tensor:
        """Items less their mean, shaped like them, in units in which all values vary alike."""
        ...

    def draw(self, parameters: Tensor, uniforms: Tensor) -> Tensor:
        """Items drawn from p(x | parameters): a function of one uniform in (0, 1) for every value."""
        ...


def halves(parameters: Tensor) -> tuple[Tensor, Tensor]:
    """The first and the second parameter of every value; slices, where `chunk` would export as Split."""
    size = parameters.shape[1] // 2
    return parameters[:, :size], parameters[:, size:]


def in_lanes(function: Callable[[Tensor], Tensor], values: Tensor) -> Tensor:
    """function(values) for a logarithm or softplus of (B, ...), elementwise, in whole vectors row by row.

    ONNX Runtime computes what is left over at the end of a tensor, less than a vector, by other code with
    other last digits, so that an item's score would depend on its place in the batch.
    """
    missing = -math.prod(values.shape[1:]) % _LANES
    if not missing:
        return function(values)
    rows = values.flatten(1)
    filled = torch.cat([rows, rows[:, :1].expand(-1, missing)], dim=1)
    return function(filled)[:, :-missing].reshape(values.shape)


def item_sum(values: Tensor) -> Tensor:
    """The sum over the last axis, as a product with ones.

    ONNX Runtime's ReduceSum adds in an order that depends on how a row lies in memory, so that an item's
    score would depend on its place in the batch; its matrix product does not.
    """
    return values @ values.new_ones(values.shape[-1])


def squashed(values: Tensor, lowest: float, highest: float) -> Tensor:
    """Values brought smoothly into (lowest, highest): v / (1 + |v|), made of operations that round exactly.

    Runtimes approximate a hyperbolic tangent each in its own way, by as much as tells on a log-scale; and
    its gradient vanishes sooner.
    """
    half = (highest - lowest) / 2
    return lowest + half + values / (1 + values.abs() / half)
