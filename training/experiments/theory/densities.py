"""Known densities on the line, and integrals over them by quadrature in float64.

p is the density of the data and q that of the generator. Source of the game: Goodfellow et al. 2014,
arXiv:1406.2661. Shapes: N points of the grid; B rows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import Normal

from training.losses.gan import value_function

GRID = torch.linspace(-20, 20, 8001, dtype=torch.float64)
"""Points (N,) of the quadrature; every density of this package is below 1e-30 beyond its ends."""


@dataclass(frozen=True)
class LineMixture:
    """The density sum_k weight_k N(mean_k, deviation_k^2); the weights sum to 1."""

    weights: tuple[float, ...]
    means: tuple[float, ...]
    deviations: tuple[float, ...]

    def log_density(self) -> Tensor:
        """Return the log density in nats on `GRID`, (N,)."""
        parts = Normal(GRID.new_tensor(self.means), GRID.new_tensor(self.deviations))
        log_parts: Tensor = parts.log_prob(GRID[:, None])  # type: ignore[no-untyped-call]
        return torch.logsumexp(GRID.new_tensor(self.weights).log() + log_parts, dim=1)

    def draw(self, rows: int, generator: torch.Generator) -> Tensor:
        """Draw items (rows, 1) float32."""
        parts = torch.multinomial(torch.tensor(self.weights), rows, replacement=True, generator=generator)
        means, deviations = torch.tensor(self.means)[parts], torch.tensor(self.deviations)[parts]
        return (means + deviations * torch.randn(rows, generator=generator))[:, None]


def gaussian(mean: float, deviation: float) -> LineMixture:
    """Return the density N(mean, deviation^2)."""
    return LineMixture((1.0,), (mean,), (deviation,))


class Integral(NamedTuple):
    """An integral over the line, and its change if every second point is left out."""

    value: float
    error: float


def integrate(values: Tensor) -> Integral:
    """Integrate values (N,) on `GRID` by the trapezoid rule.

    For smooth functions that vanish at both ends its error falls faster than any power of the spacing.
    Source: Trefethen & Weideman 2014, "The exponentially convergent trapezoidal rule", section 5.
    """
    fine, coarse = (float(torch.trapezoid(values[::every], GRID[::every])) for every in (1, 2))
    return Integral(fine, abs(fine - coarse))


def optimal_logits(p: LineMixture, q: LineMixture) -> Tensor:
    """Return the logits log p - log q of D* = p / (p + q) on `GRID`, (N,). Source: ibid., proposition 1."""
    return p.log_density() - q.log_density()


def game_value(p: LineMixture, q: LineMixture, logits: Tensor) -> Integral:
    """Return V(G, D) = E_p[log D] + E_q[log(1 - D)] in nats for the logits (N,) of D on `GRID`."""
    log_real, log_fake = value_function(logits.double(), logits.double())
    return integrate(p.log_density().exp() * log_real + q.log_density().exp() * log_fake)


def jensen_shannon(p: LineMixture, q: LineMixture) -> Integral:
    """Return JSD(p || q) = KL(p || m) / 2 + KL(q || m) / 2, m = (p + q) / 2, in nats: 0 to log 2."""
    log_p, log_q = p.log_density(), q.log_density()
    log_m = torch.logaddexp(log_p, log_q) - math.log(2)
    return integrate(0.5 * (log_p.exp() * (log_p - log_m) + log_q.exp() * (log_q - log_m)))
