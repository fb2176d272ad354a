"""The protocol of all likelihoods p(x | parameters), and the sums and bounds they share."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from service.format.manifest import Support

_LANES = 16
"""The largest number of float32 values in one vector instruction."""


class SupportError(ValueError):
    """Items lie outside the likelihood's support."""


class Likelihood(Protocol):
    """A likelihood p(x | parameters), in nats per item.

    Shapes: B rows, P parameters per value; items (B, C, H, W) or (B, F), float32; parameters the same with P
    times as many channels or features, one parameter after the other. All but `check_support` is free of
    data-dependent control flow, so it exports to ONNX.
    """

    name: str
    support: Support
    parameters_per_value: int
    """P, the number of decoder outputs for every value of an item."""

    def bounded(self, outputs: Tensor) -> Tensor:
        """Return the parameters for a network's unbounded outputs of the same shape."""

    def check_support(self, items: Tensor) -> None:
        """Raise SupportError if any value of `items` has no likelihood."""

    def log_prob(self, parameters: Tensor, items: Tensor) -> Tensor:
        """Return log p(items | parameters) in nats per item, (B,)."""
        return item_sum(self.value_log_prob(parameters, items).flatten(1))

    def value_log_prob(self, parameters: Tensor, items: Tensor) -> Tensor:
        """Return each value's term of `log_prob`, in nats, shaped like items."""

    def best_log_prob(self, items: Tensor) -> Tensor | None:
        """Return the largest `value_log_prob` over all parameters, shaped like items.

        This is the log-likelihood of a perfect reconstruction, value by value. It is None if the likelihood
        is a density whose maximum is set only by a bound on its scale.
        """

    def mean(self, parameters: Tensor) -> Tensor:
        """Return E[x | parameters], shaped like items."""

    def residual(self, parameters: Tensor, items: Tensor) -> Tensor:
        """Return items minus their mean, in units in which all values vary alike."""
        return items - self.mean(parameters)

    def draw(self, parameters: Tensor, uniforms: Tensor) -> Tensor:
        """Draw items from p(x | parameters): a function of one uniform in (0, 1) for every value."""


def require_support(items: Tensor, fits: Tensor, wanted: str, otherwise: str, advice: str) -> None:
    """Refuse items with values that do not fit.

    Raises:
        SupportError: Naming their number and the first.
    """
    if not bool(fits.all()):
        strange = items[~fits]
        raise SupportError(
            f"{wanted}, but {strange.numel()} of {items.numel()} values {otherwise}, the first "
            f"{strange[0].item():g}; {advice}"
        )


def halves(parameters: Tensor) -> tuple[Tensor, Tensor]:
    """Return the first and the second parameter of every value, as slices: `chunk` would export as Split."""
    size = parameters.shape[1] // 2
    return parameters[:, :size], parameters[:, size:]


def in_lanes(function: Callable[[Tensor], Tensor], values: Tensor) -> Tensor:
    """Apply a logarithm to values (B, ...) in whole vectors, row by row.

    ONNX Runtime computes the rest of a tensor that does not fill a vector by other code, with other last
    digits, so an item's score would depend on its place in the batch.
    """
    missing = -math.prod(values.shape[1:]) % _LANES
    if not missing:
        return function(values)
    rows = values.flatten(1)
    filled = torch.cat([rows, rows[:, :1].expand(-1, missing)], dim=1)
    return function(filled)[:, :-missing].reshape(values.shape)


def softplus(values: Tensor) -> Tensor:
    """Return log(1 + e^v), elementwise.

    Graphs have max(v, 0) - log(sigmoid(|v|)), whose error is at most 1.2e-7 (1 + |v|): ONNX Runtime computes
    these operations on whole vectors, and its Softplus on one value at a time.
    """
    if not torch.compiler.is_exporting():
        return F.softplus(values)
    return torch.relu(values) - in_lanes(torch.log, torch.sigmoid(values.abs()))


def item_sum(values: Tensor) -> Tensor:
    """Sum over the last axis, as a product with ones.

    ONNX Runtime's ReduceSum adds in an order that depends on how a row lies in memory, so an item's score
    would depend on its place in the batch; its matrix product does not.
    """
    return values @ values.new_ones(values.shape[-1])


def squashed(values: Tensor, lowest: float, highest: float) -> Tensor:
    """Squash values smoothly into (lowest, highest): v / (1 + |v|), of operations that round exactly.

    A hyperbolic tangent differs between runtimes, enough to matter on a log scale, and saturates sooner.
    """
    half = (highest - lowest) / 2
    return lowest + half + values / (1 + values.abs() / half)
