"""The likelihood of pictures with 8 bits per channel: a logistic distribution over 256 levels."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from service.format.manifest import Support
from training.models.likelihoods.bernoulli import log_sinhc_half
from training.models.likelihoods.likelihood import (
    Likelihood,
    halves,
    in_lanes,
    require_support,
    softplus,
    squashed,
)

_STEPS = 255
_LEVEL = 1 / _STEPS
"""Distance between two neighbouring levels of grey."""
_LOCATIONS = (-1.0, 2.0)
"""The range of locations; it exceeds [0, 1] so that black and white can have all of the mass."""
_LOG_SCALES = (math.log(0.5 * _LEVEL), 0.0)
"""The range of log-scales: from half a level, where one level has up to 46% of the mass, to the whole range.
A narrower scale would magnify the last digits of a location, which differ between processors, even more."""
_BEST_INSIDE = math.log(math.tanh(_LEVEL / math.exp(_LOG_SCALES[0]) / 4))
_NEAR = 1e-3
"""The largest distance from a level, in levels, that counts as rounding of float32."""


def nearest_levels(items: Tensor) -> Tensor:
    """Round values in [0, 1] to the nearest of the 256 levels, as a PNG would store them."""
    return torch.round(items * _STEPS) / _STEPS


class DiscretisedLogistic(Likelihood):
    """Independent values k / 255, k = 0 .. 255, each with the mass of a logistic distribution around it.

    P(k) = F((k + 1/2) / 255) - F((k - 1/2) / 255), where the outermost levels take the tails and F is the
    logistic distribution function of a location and a scale, both the decoder's. It is a probability, so
    its bits per dimension compare with any other 8-bit model's.
    Source: Kingma et al. 2016, arXiv:1606.04934, section 5.2; Salimans et al. 2017, arXiv:1701.05517, 2.1.
    """

    name = "discretised-logistic"
    support: Support = "eight_bit"
    parameters_per_value = 2

    def bounded(self, outputs: Tensor) -> Tensor:
        """Return locations in (-1, 2), then log-scales from half a level to the whole range."""
        location, log_scale = halves(outputs)
        return torch.cat([squashed(location, *_LOCATIONS), squashed(log_scale, *_LOG_SCALES)], dim=1)

    def check_support(self, items: Tensor) -> None:
        """Refuse values that are not multiples of 1/255 in [0, 1]."""
        levels = items * _STEPS
        fits = (items >= 0) & (items <= 1) & ((levels - levels.round()).abs() <= _NEAR)
        wanted = "the discretised logistic likelihood scores the 256 levels 0, 1/255 .. 1"
        advice = "use data of 8 bits, or the likelihood 'continuous-bernoulli'"
        require_support(items, fits, wanted, "are others", advice)

    def value_log_prob(self, parameters: Tensor, items: Tensor) -> Tensor:
        """Return the log-probability of the level nearest to each value.

        With a and b the standardised upper and lower edge, log(F(a) - F(b)) = log F(a) + log F(-b) + log(1 -
        e^(b - a)), in which nothing cancels; at the outermost levels one edge is infinite.
        """
        if torch.is_grad_enabled() and parameters.requires_grad and not torch.compiler.is_exporting():
            value: Tensor = _WithGradient.apply(parameters, items)  # type: ignore[no-untyped-call]
            return value
        location, log_scale = halves(parameters)
        levels = torch.round(items * _STEPS)
        centred, inverse_scale = levels * _LEVEL - location, torch.exp(-log_scale)
        below_upper = softplus(-(centred + 0.5 * _LEVEL) * inverse_scale)
        above_lower = softplus((centred - 0.5 * _LEVEL) * inverse_scale)
        # log(1 - e^-y) = log y - y/2 + log(sinh(y/2) / (y/2)), exact for small y as well
        width = _LEVEL * inverse_scale
        both_edges = math.log(_LEVEL) - log_scale - 0.5 * width + log_sinhc_half(width)
        zero = torch.zeros_like(centred)
        black, white = levels < 0.5, levels > _STEPS - 0.5
        inside = torch.where(black, zero, above_lower) + torch.where(white, zero, below_upper)
        edges = torch.where(black, zero, torch.where(white, zero, both_edges))
        return edges - inside

    def best_log_prob(self, items: Tensor) -> Tensor:
        """Return 0 for black and white, which may have all of the mass; log 0.46 for a level between them.

        There the narrowest logistic lies on the level: F(w/2) - F(-w/2) = tanh(w/4), w its width in scales.
        """
        levels, zero = torch.round(items * _STEPS), torch.zeros_like(items)
        black, white = levels < 0.5, levels > _STEPS - 0.5
        return torch.where(black, zero, torch.where(white, zero, _BEST_INSIDE))

    def mean(self, parameters: Tensor) -> Tensor:
        """Return the mean of the logistic, tails moved to 0 and 1; it is exact within 0.023 levels."""
        location, log_scale = halves(parameters)
        scale, inverse_scale = torch.exp(log_scale), torch.exp(-log_scale)
        # E = integral of 1 - F(t) over [0, 1]; float32 may round it to above 1
        above_black, above_white = (softplus((location - end) * inverse_scale) for end in (0.0, 1.0))
        return (scale * (above_black - above_white)).clamp(0, 1)

    def draw(self, parameters: Tensor, uniforms: Tensor) -> Tensor:
        """Return the level nearest to the logistic's inverse distribution function at the uniforms."""
        location, log_scale = halves(parameters)
        log_odds = in_lanes(torch.log, uniforms) - in_lanes(torch.log, 1 - uniforms)
        values = location + torch.exp(log_scale) * log_odds
        return torch.round(values.clamp(0, 1) * _STEPS) * _LEVEL


class _WithGradient(torch.autograd.Function):
    """The log-probability with its gradient in closed form: two thirds of the time of its operations'.

    With a and b the standardised upper and lower edge, w = a - b, s the scale and F the logistic distribution
    function, d log P / d location = (F(b) - F(-a)) / s, and d log P / d log s = b F(b) - a F(-a) - w / (e^w -
    1). What belongs to an infinite edge of an outermost level is 0.
    """

    @staticmethod
    def forward(ctx: Any, parameters: Tensor, items: Tensor) -> Tensor:
        ctx.save_for_backward(parameters, items)
        return DiscretisedLogistic().value_log_prob(parameters, items)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        parameters, items = ctx.saved_tensors
        location, log_scale = halves(parameters)
        levels, inverse_scale = torch.round(items * _STEPS), torch.exp(-log_scale)
        black, white = levels < 0.5, levels > _STEPS - 0.5
        centred = (levels * _LEVEL).sub_(location)
        upper = (centred + 0.5 * _LEVEL).mul_(inverse_scale)
        lower = centred.sub_(0.5 * _LEVEL).mul_(inverse_scale)
        above, below = (
            torch.sigmoid(-upper).masked_fill_(white, 0),
            torch.sigmoid(lower).masked_fill_(black, 0),
        )
        width = _LEVEL * inverse_scale
        of_location = (below - above).mul_(inverse_scale).mul_(gradient)
        edges = width.div_(torch.expm1(width)).masked_fill_(black | white, 0)
        of_scale = lower.mul_(below).sub_(upper.mul_(above)).sub_(edges).mul_(gradient)
        return torch.cat([of_location, of_scale], dim=1), None
