"""Likelihoods of pictures with one parameter per pixel, its logit: binary pixels and pixels in [0, 1]."""

from __future__ import annotations

import torch
from torch import Tensor

from service.format.manifest import Support
from training.models.likelihoods.likelihood import Likelihood, in_lanes, require_support, softplus, squashed

_SERIES_BELOW = 1.0
"""|logit| below which Taylor series replace the closed forms, which lose digits to cancellation there."""
_SMALLEST_ROOM = 1e-30
"""A least denominator, which keeps a quotient finite before it is clamped."""
_LINEAR_BELOW = 1.0 / 16
"""The same for the inverse distribution function, whose series is shorter."""


class Bernoulli(Likelihood):
    """Independent binary pixels; log_prob is minus the binary cross-entropy on logits."""

    name = "bernoulli"
    support: Support = "binary"
    parameters_per_value = 1

    def bounded(self, outputs: Tensor) -> Tensor:
        """Return the logits unchanged: nothing below overflows."""
        return outputs

    def check_support(self, items: Tensor) -> None:
        """Refuse values other than 0 and 1: the cross-entropy of a grey pixel is no log-likelihood."""
        wanted = "the Bernoulli likelihood scores pixels 0 and 1"
        advice = "binarise the data or use 'continuous-bernoulli'"
        require_support(items, (items == 0) | (items == 1), wanted, "are others", advice)

    def value_log_prob(self, parameters: Tensor, items: Tensor) -> Tensor:
        """Return the log-probability of each pixel, x l - log(1 + e^l)."""
        return items * parameters - softplus(parameters)

    def best_log_prob(self, items: Tensor) -> Tensor:
        """Return 0: a pixel of a perfect reconstruction is certain."""
        return torch.zeros_like(items)

    def mean(self, parameters: Tensor) -> Tensor:
        """Return the probability that each pixel is 1."""
        return torch.sigmoid(parameters)

    def draw(self, parameters: Tensor, uniforms: Tensor) -> Tensor:
        """Return 1 if the uniform is below the probability of 1, else 0."""
        return (uniforms < torch.sigmoid(parameters)).to(parameters.dtype)


class ContinuousBernoulli(Likelihood):
    """Independent pixels in [0, 1] with density l e^(l x) / (e^l - 1), l the logit: a true density.

    Source: Loaiza-Ganem & Cunningham 2019, arXiv:1907.06845, section 3 (there lambda = sigmoid(l)). With x
    centred, log p = l (x - 1/2) - log(sinh(l/2) / (l/2)), whose last term is even around l = 0; it neither
    overflows nor divides 0 by 0, because small |l| use a series.
    """

    name = "continuous-bernoulli"
    support: Support = "unit_interval"
    parameters_per_value = 1

    def __init__(self, logit_bound: float) -> None:
        self._logit_bound = logit_bound

    def bounded(self, outputs: Tensor) -> Tensor:
        """Return logits in (-bound, bound), without which the density at 0 or 1 would grow for ever."""
        return squashed(outputs, -self._logit_bound, self._logit_bound)

    def check_support(self, items: Tensor) -> None:
        """Refuse values outside [0, 1]."""
        wanted = "the continuous Bernoulli likelihood scores pixels in [0, 1]"
        require_support(items, (items >= 0) & (items <= 1), wanted, "lie outside", "scale the data")

    def value_log_prob(self, parameters: Tensor, items: Tensor) -> Tensor:
        """Return the log density of each pixel, which may be positive."""
        return parameters * (items - 0.5) - log_sinhc_half(parameters)

    def best_log_prob(self, items: Tensor) -> Tensor:
        """Return the log density of each pixel under the logit whose mean it is, or the nearest one allowed.

        It is within 4e-6 nats of the maximum. Source: Chauhan et al. 2022, "Robust outlier detection by
        de-biasing VAE likelihoods", CVPR, section 3.2, where the logit is found by search.
        """
        return self.value_log_prob(nearest_logits(items, self._logit_bound), items)

    def mean(self, parameters: Tensor) -> Tensor:
        """Return 1 / (1 - e^-l) - 1 / l, in (0, 1); 1/2 at l = 0."""
        small = parameters.abs() < _SERIES_BELOW
        square = parameters * parameters
        series = parameters * (1 / 12 - square * (1 / 720 - square * (1 / 30240 - square / 1209600)))
        safe = torch.where(small, _SERIES_BELOW, parameters)
        # 1 / (1 - e^-l) = 1/2 + coth(l/2) / 2, which does not overflow
        return 0.5 + torch.where(small, series, 0.5 / torch.tanh(0.5 * safe) - 1 / safe)

    def draw(self, parameters: Tensor, uniforms: Tensor) -> Tensor:
        """Return the inverse distribution function, log(1 + u (e^l - 1)) / l, at the uniforms."""
        size = parameters.abs()
        safe = size.clamp(min=_LINEAR_BELOW)  # the branch not taken keeps finite values and gradients
        # F(x; l) = 1 - F(1 - x; -l): with -|l| no exponential overflows
        falling = torch.where(parameters > 0, 1 - uniforms, uniforms)
        closed = -in_lanes(torch.log, (1 - falling) + falling * torch.exp(-safe)) / safe
        closed = torch.where(parameters > 0, 1 - closed, closed)
        spread = uniforms * (1 - uniforms)
        series = uniforms + parameters * spread * (0.5 + parameters * (1 - 2 * uniforms) / 6)
        return torch.where(size < _LINEAR_BELOW, series, closed).clamp(0, 1)


def nearest_logits(means: Tensor, bound: float) -> Tensor:
    """Return logits within +-bound whose continuous Bernoulli has those means; elementwise, within 0.3%.

    The mean is (1 + L(l/2)) / 2 with Langevin's function L(y) = coth y - 1 / y, whose inverse is known only
    by approximation. The loss of likelihood is quadratic in the logit's error. Source: Kroeger 2015, "Simple,
    admissible, and accurate approximants of the inverse Langevin and Brillouin functions", Journal of
    Non-Newtonian Fluid Mechanics 223, equation 15.
    """
    u = 2 * means - 1
    square = u * u
    numerator = u * (3 - square * (6 + square * (1 - 2 * square)) / 5)
    # 1 - u^2, without cancellation near black and white, and kept above 0
    room = (4 * means * (1 - means)).clamp(min=_SMALLEST_ROOM)
    return (2 * numerator / room).clamp(-bound, bound)


def log_sinhc_half(logits: Tensor) -> Tensor:
    """Return log(sinh(l/2) / (l/2)), elementwise; even in l, 0 at 0."""
    size = logits.abs()
    safe = size.clamp(min=_SERIES_BELOW)  # the branch not taken keeps finite values and gradients
    square = logits * logits
    series = square * (1 / 24 - square * (1 / 2880 - square * (1 / 181440 - square / 9676800)))
    closed = 0.5 * safe + in_lanes(torch.log, (1 - torch.exp(-safe)) / safe)
    return torch.where(size < _SERIES_BELOW, series, closed)
