"""Likelihoods of a decoder's outputs as formulas, for graphs and for the float64 they are compared with.

The values of an item are independent of each other. Shapes: (..., n), n the values of an item, in the units
of the items that the service takes. They agree with those of `training.models.likelihoods`. A likelihood's
`outputs` is the number of tensors that the decoder gives, or of the parts of its one tensor. `residual` is in
units in which all values vary alike, `best` is the log-likelihood of a perfect reconstruction (None if it has
no maximum), and `draw` is a function of one uniform in (0, 1) for every value.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from service.format.manifest import Support
from training.export.own.algebra import Algebra, Tensor
from training.models.quantile import CENTRAL, TAIL, TAIL_FROM, polynomial

LikelihoodName = Literal["bernoulli", "continuous-bernoulli", "gaussian", "laplace"]
LIKELIHOODS: tuple[LikelihoodName, ...] = get_args(LikelihoodName)
WITH_SCALE: tuple[LikelihoodName, ...] = ("gaussian", "laplace")
"""Those of values of any size, with a scale that the decoder gives, or that is a constant."""
DecoderGives = Literal[
    "logits",
    "probabilities",
    "mean",
    "mean_and_scale",
    "mean_and_variance",
    "mean_and_log_scale",
    "mean_and_log_variance",
]
"""The meaning of a decoder's outputs."""
DECODER_WORDS: dict[LikelihoodName, tuple[DecoderGives, ...]] = {
    "bernoulli": ("probabilities", "logits"),
    "continuous-bernoulli": ("probabilities", "logits"),
    "gaussian": (
        "mean",
        "mean_and_scale",
        "mean_and_variance",
        "mean_and_log_scale",
        "mean_and_log_variance",
    ),
    "laplace": ("mean", "mean_and_scale", "mean_and_log_scale"),
}
"""The words that fit a likelihood; with `mean` the scale is a constant."""
Parameters = tuple[Tensor, ...]
FURTHEST = 1e10
"""The most scales between a value and its mean that count, and the farthest means of latents from 0: a row
that is however far from all others has finite scores in float32."""
LOG_FURTHEST = math.log(FURTHEST)
"""The bound of the logarithms of a posterior's scales."""
LOG_SCALE_BOUND = 85.0
"""The bound of the logarithms of a likelihood's scales, in any unit: e^-85 and e^85 are float32's ends."""
EPSILON = float(np.finfo(np.float32).eps)
"""Probabilities are kept within [epsilon, 1 - epsilon], as torch.distributions keeps them."""
_LOGIT_BOUND = 50.0
"""The largest |logit| of a perfect reconstruction under the continuous Bernoulli, which has no likeliest."""
_SERIES_BELOW = 1.0
"""|logit| below which Taylor series replace the closed forms, which lose digits to cancellation there."""
_LINEAR_BELOW = 1.0 / 16
_SMALLEST_ROOM = 1e-30
_SMALLEST_UNIFORM = 2.0**-24


@dataclass(frozen=True)
class BernoulliFormulas:
    """Binary values: their log-probabilities of being 1 and 0."""

    gives: DecoderGives
    size: int
    """n, the values of an item."""
    bound: float | None = None
    """The largest |logit|, if these are of probabilities; None: no bound."""
    name: LikelihoodName = "bernoulli"
    outputs: int = 1
    support: Support = "binary"

    def parameters(self, f: Algebra, outputs: Sequence[Tensor]) -> Parameters:
        """Return the probabilities of 1, and the log-probabilities of 1 and of 0."""
        if self.gives == "logits":
            logits = _bounded(f, outputs[0], self.bound)
            softplus = f.softplus(logits, self.size)
            return f.sigmoid(logits), logits - softplus, -softplus
        probabilities = f.clip(outputs[0], EPSILON, 1 - EPSILON)
        return probabilities, f.log(probabilities, self.size), f.log(1.0 - probabilities, self.size)

    def log_prob(self, f: Algebra, parameters: Parameters, items: Tensor) -> Tensor:  # noqa: ARG002
        """Return minus the binary cross-entropy of every value."""
        _, one, zero = parameters
        return items * one + (1.0 - items) * zero

    def best(self, f: Algebra, items: Tensor) -> Tensor:  # noqa: ARG002
        """Return 0: a value of a perfect reconstruction is certain."""
        return items * 0.0

    def mean(self, f: Algebra, parameters: Parameters) -> Tensor:  # noqa: ARG002
        """Return the probability of 1."""
        return parameters[0]

    def residual(self, f: Algebra, parameters: Parameters, items: Tensor) -> Tensor:  # noqa: ARG002
        """Return items minus their probabilities."""
        return items - parameters[0]

    def draw(self, f: Algebra, parameters: Parameters, uniforms: Tensor) -> Tensor:
        """Return 1 where the uniform is below the probability, else 0."""
        return f.where((uniforms, parameters[0]), f.constant(1.0), f.constant(0.0))


@dataclass(frozen=True)
class ContinuousBernoulliFormulas:
    """Values in [0, 1] with density l e^(l x) / (e^l - 1), l the logit.

    Source: Loaiza-Ganem & Cunningham 2019, arXiv:1907.06845, section 3 (there lambda = sigmoid(l)).
    """

    gives: DecoderGives
    size: int
    bound: float | None = None
    name: LikelihoodName = "continuous-bernoulli"
    outputs: int = 1
    support: Support = "unit_interval"

    def parameters(self, f: Algebra, outputs: Sequence[Tensor]) -> Parameters:
        """Return the logits."""
        if self.gives == "logits":
            return (_bounded(f, outputs[0], self.bound),)
        probabilities = f.clip(outputs[0], EPSILON, 1 - EPSILON)
        return (f.log(probabilities, self.size) - f.log(1.0 - probabilities, self.size),)

    def log_prob(self, f: Algebra, parameters: Parameters, items: Tensor) -> Tensor:
        """Return the log density of every value: l (x - 1/2) - log(sinh(l/2) / (l/2))."""
        (logits,) = parameters
        size = f.abs(logits)
        safe = f.clip(size, _SERIES_BELOW, None)
        square = logits * logits
        series = square * (1 / 24 - square * (1 / 2880 - square * (1 / 181440 - square / 9676800.0)))
        closed = 0.5 * safe + f.log((1.0 - f.exp(-safe)) / safe, self.size)
        return logits * (items - 0.5) - f.where((size, _SERIES_BELOW), series, closed)

    def best(self, f: Algebra, items: Tensor) -> Tensor:
        """Return the log density under the logit whose mean the value is, within +- 50.

        Source: Kroeger 2015, "Simple, admissible, and accurate approximants of the inverse Langevin and
        Brillouin functions", Journal of Non-Newtonian Fluid Mechanics 223, equation 15.
        """
        u = 2.0 * items - 1.0
        square = u * u
        numerator = u * (3.0 - square * (6.0 + square * (1.0 - 2.0 * square)) / 5.0)
        room = f.clip(4.0 * items * (1.0 - items), _SMALLEST_ROOM, None)
        nearest = f.clip(2.0 * numerator / room, -_LOGIT_BOUND, _LOGIT_BOUND)
        return self.log_prob(f, (nearest,), items)

    def mean(self, f: Algebra, parameters: Parameters) -> Tensor:
        """Return 1 / (1 - e^-l) - 1 / l, in (0, 1); 1/2 at l = 0."""
        (logits,) = parameters
        size, square = f.abs(logits), logits * logits
        series = logits * (1 / 12 - square * (1 / 720 - square * (1 / 30240 - square / 1209600.0)))
        safe = f.where((size, _SERIES_BELOW), f.constant(_SERIES_BELOW), logits)
        closed = 0.5 / f.tanh(0.5 * safe) - 1.0 / safe
        return 0.5 + f.where((size, _SERIES_BELOW), series, closed)

    def residual(self, f: Algebra, parameters: Parameters, items: Tensor) -> Tensor:
        """Return items minus their mean."""
        return items - self.mean(f, parameters)

    def draw(self, f: Algebra, parameters: Parameters, uniforms: Tensor) -> Tensor:
        """Return the inverse distribution function, log(1 + u (e^l - 1)) / l, at the uniforms."""
        (logits,) = parameters
        size = f.abs(logits)
        safe = f.clip(size, _LINEAR_BELOW, None)
        # F(x; l) = 1 - F(1 - x; -l): with -|l| no exponential overflows
        falling = f.where((0.0, logits), 1.0 - uniforms, uniforms)
        closed = -f.log((1.0 - falling) + falling * f.exp(-safe), self.size) / safe
        closed = f.where((0.0, logits), 1.0 - closed, closed)
        spread = uniforms * (1.0 - uniforms)
        series = uniforms + logits * spread * (0.5 + logits * (1.0 - 2.0 * uniforms) / 6.0)
        return f.clip(f.where((size, _LINEAR_BELOW), series, closed), 0.0, 1.0)


@dataclass(frozen=True)
class LocationScaleFormulas(ABC):
    """Values of any size: their means and the logarithms of their scales.

    The mean and scale that a decoder gives in its own units are m and s; those of the items are
    `shift + factor m` and `factor s`, so that densities include the Jacobian.
    """

    gives: DecoderGives
    size: int
    support: Support
    """`unit_interval` if items have a range, into which means and draws are then moved."""
    shift: float = 0.0
    factor: float = 1.0
    scale: NDArray[np.float64] | None = None
    """The scale in the units of the items, one number or (n,); None if the decoder gives it."""

    name: ClassVar[LikelihoodName]
    power: ClassVar[int]
    """p: the likeliest scale of gaps is the p-th root of the mean of |gap|^p."""
    log_peak: ClassVar[float]
    """The log density at the mean if the scale is 1."""

    @property
    def outputs(self) -> int:
        """The number of tensors that the decoder gives."""
        return 1 if self.gives == "mean" else 2

    def parameters(self, f: Algebra, outputs: Sequence[Tensor]) -> Parameters:
        """Return means, and the logarithms of scales."""
        mean = self.factor * outputs[0] + self.shift
        if self.scale is not None:
            return mean, f.constant(np.log(self.scale))
        second = outputs[1]
        if self.gives == "mean_and_scale":
            second = f.log(second, self.size)
        elif self.gives == "mean_and_variance":
            second = 0.5 * f.log(second, self.size)
        elif self.gives == "mean_and_log_variance":
            second = 0.5 * second
        return mean, f.clip(second + math.log(self.factor), -LOG_SCALE_BOUND, LOG_SCALE_BOUND)

    def log_prob(self, f: Algebra, parameters: Parameters, items: Tensor) -> Tensor:
        """Return the log density of every value."""
        return -self._fall(f, self.residual(f, parameters, items)) - (parameters[1] - self.log_peak)

    def best(self, f: Algebra, items: Tensor) -> Tensor | None:
        """Return the log density at the mean; None if the scale is the decoder's, without a least one."""
        if self.scale is None:
            return None
        return items * 0.0 - (f.constant(np.log(self.scale)) - self.log_peak)

    def mean(self, f: Algebra, parameters: Parameters) -> Tensor:
        """Return the means, moved into the range of the items."""
        return self._within(f, parameters[0])

    def residual(self, f: Algebra, parameters: Parameters, items: Tensor) -> Tensor:
        """Return items minus their means, in scales."""
        return f.clip((items - parameters[0]) * f.exp(-parameters[1]), -FURTHEST, FURTHEST)

    def draw(self, f: Algebra, parameters: Parameters, uniforms: Tensor) -> Tensor:
        """Return the inverse distribution function at the uniforms, moved into the range of the items.

        Uniforms outside [2^-24, 1 - 2^-24] count as the nearer end.
        """
        safe = f.clip(uniforms, _SMALLEST_UNIFORM, 1 - _SMALLEST_UNIFORM)
        return self._within(f, parameters[0] + f.exp(parameters[1]) * self._quantile(f, safe))

    def _within(self, f: Algebra, values: Tensor) -> Tensor:
        return values if self.support == "real" else f.clip(values, 0.0, 1.0)

    @abstractmethod
    def _fall(self, f: Algebra, gaps: Tensor) -> Tensor:
        """Return how far the log density at gaps, in scales, is below its peak."""

    @abstractmethod
    def _quantile(self, f: Algebra, uniforms: Tensor) -> Tensor:
        """Return the inverse distribution function at uniforms, in scales from the mean."""


class GaussianFormulas(LocationScaleFormulas):
    """Gaussian values, whose scale is their standard deviation."""

    name, power, log_peak = "gaussian", 2, -0.5 * math.log(2 * math.pi)

    def _fall(self, f: Algebra, gaps: Tensor) -> Tensor:  # noqa: ARG002
        return 0.5 * gaps * gaps

    def _quantile(self, f: Algebra, uniforms: Tensor) -> Tensor:
        """Source: Giles 2011, "Approximating the erfinv function", GPU Computing Gems vol. 2, table 1."""
        w = -f.log(4.0 * uniforms * (1.0 - uniforms), self.size)
        central = polynomial(w - 2.5, CENTRAL)
        tail = polynomial(f.sqrt(f.clip(w, TAIL_FROM, None)) - 3.0, TAIL)
        return math.sqrt(2) * (2.0 * uniforms - 1.0) * f.where((w, TAIL_FROM), central, tail)


class LaplaceFormulas(LocationScaleFormulas):
    """Values with density e^(-|x - m| / s) / 2 s, whose loss is the absolute error."""

    name, power, log_peak = "laplace", 1, -math.log(2)

    def _fall(self, f: Algebra, gaps: Tensor) -> Tensor:
        return f.abs(gaps)

    def _quantile(self, f: Algebra, uniforms: Tensor) -> Tensor:
        below = f.log(2.0 * uniforms, self.size)
        above = f.log(2.0 * (1.0 - uniforms), self.size)
        return f.where((uniforms, 0.5), below, -above)


def of_logits(
    likelihood: BernoulliFormulas | ContinuousBernoulliFormulas,
) -> BernoulliFormulas | ContinuousBernoulliFormulas:
    """Return the likelihood of the same probabilities, given by their logits."""
    return replace(likelihood, gives="logits", bound=math.log1p(-EPSILON) - math.log(EPSILON))


def _bounded(f: Algebra, logits: Tensor, bound: float | None) -> Tensor:
    return logits if bound is None else f.clip(logits, -bound, bound)


LikelihoodFormulas = BernoulliFormulas | ContinuousBernoulliFormulas | LocationScaleFormulas
