"""A calibrated discriminator gives a lower bound on the Jensen-Shannon divergence while a GAN trains.

log 2 + V(G, D) / 2 <= JSD(p || q) for every D; on held-out items its estimate is free of overfitting. The
generator is an affine map of a Gaussian, so q is a Gaussian and the exact divergence is known throughout.
Source: Goodfellow et al. 2014, arXiv:1406.2661, theorem 1; calibration: Turner et al. 2019, arXiv:1811.11357,
section 3.1. Shapes: B rows; N held-out rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from training.experiments.theory.densities import LineMixture, gaussian, jensen_shannon
from training.experiments.theory.discriminators import LineDiscriminator
from training.experiments.theory.drawing import TALL
from training.losses.gan import gradient_penalty, non_saturating_generator_loss
from training.metrics.distances import Estimate
from training.metrics.platt import (
    calibration_z,
    expected_calibration_error,
    fit_platt,
    jsd_bound,
    reliability,
)
from training.report.page import Picture, Section, Table
from training.report.plotting import BLUE, INK, ORANGE, legend_above, plot

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DATA = LineMixture((0.5, 0.5), (-1.1, 1.1), (0.5, 0.5))
_START = (-4.0, 0.5)
"""Mean and standard deviation of the untrained generator's items."""
STEPS = 1500
_EVERY = 50
_BATCH_ROWS = 256
_HELD_OUT_ROWS = 10_000
"""Real items at every measurement, and as many generated ones; half of them calibrate."""
_LEARNING_RATE = 4e-3
_R1_WEIGHT = 0.05
ERRORS = 3.0
"""Standard errors of the drawn band."""


class AffineGenerator:
    """x = mean + exp(log_deviation) z with z from N(0, 1): its density is known exactly."""

    def __init__(self, mean: float, deviation: float) -> None:
        self.mean = torch.tensor(mean, requires_grad=True)
        self.log_deviation = torch.tensor(deviation).log().requires_grad_()

    def __call__(self, latents: Tensor) -> Tensor:
        """Map latents (B, 1) to items (B, 1)."""
        return self.mean + self.log_deviation.exp() * latents

    def density(self) -> LineMixture:
        """Return the exact density of its items."""
        return gaussian(self.mean.item(), self.log_deviation.exp().item())


@dataclass(frozen=True)
class BoundMeasurement:
    """The divergence and its bounds at one step of training."""

    steps: int
    exact: float
    """JSD(p || q), nats, by quadrature."""
    raw: Estimate
    """The bound from the discriminator's own logits."""
    calibrated: Estimate
    """The bound from logits calibrated on the other half of the held-out items."""
    halves: tuple[Tensor, Tensor, Tensor, Tensor]
    """Raw logits of real and of generated items, then calibrated ones; each (N / 2,)."""


def train_and_measure(steps: int = STEPS) -> list[BoundMeasurement]:
    """Train a small GAN with R1 and the non-saturating loss, and measure it every 50 steps."""
    noise = torch.Generator().manual_seed(0)
    generator = AffineGenerator(*_START)
    optimiser = torch.optim.Adam([generator.mean, generator.log_deviation], _LEARNING_RATE, betas=(0.0, 0.9))
    discriminator = LineDiscriminator(0, _LEARNING_RATE, betas=(0.0, 0.9))
    measurements = []
    for step in range(steps + 1):
        if step % _EVERY == 0:
            measurements.append(_measure(discriminator, generator, noise, step))
        real = DATA.draw(_BATCH_ROWS, noise).requires_grad_()
        fake = generator(torch.randn(_BATCH_ROWS, 1, generator=noise))
        penalty = _R1_WEIGHT * gradient_penalty(real, discriminator(real))
        discriminator.learn(real.detach(), fake.detach(), penalty)
        judged = discriminator(fake)
        optimiser.zero_grad()
        non_saturating_generator_loss(judged, judged).mean().backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return measurements


def _measure(
    discriminator: LineDiscriminator, generator: AffineGenerator, noise: torch.Generator, steps: int
) -> BoundMeasurement:
    density = generator.density()
    with torch.no_grad():
        real, fake = (
            discriminator(mixture.draw(_HELD_OUT_ROWS, noise)).double().chunk(2)
            for mixture in (DATA, density)
        )
    calibrate = fit_platt(real[0], fake[0])
    raw, calibrated = (real[1], fake[1]), (calibrate(real[1]), calibrate(fake[1]))
    exact = jensen_shannon(DATA, density).value
    return BoundMeasurement(steps, exact, jsd_bound(*raw), jsd_bound(*calibrated), (*raw, *calibrated))


def bound_section() -> Section:
    """Show the bound and the exact divergence along a training, and the effect of calibration."""
    measurements = train_and_measure()
    excess = max(
        (each.calibrated.value - each.exact) / each.calibrated.standard_error
        for each in measurements
        if each.calibrated.standard_error
    )
    rows = tuple(
        (
            f"{each.steps:,}",
            f"{each.exact:.4f}",
            f"{each.calibrated.value:.4f} ± {each.calibrated.standard_error:.4f}",
            f"{each.raw.value:.4f} ± {each.raw.standard_error:.4f}",
        )
        for each in measurements[:: len(measurements) // 6]
    )
    return Section(
        "While a GAN trains, the divergence can be read off",
        (
            "Theorem 1 needs the best discriminator; any other one gives a lower bound. Held-out items make "
            "it honest, and two numbers fitted on other held-out items (Platt scaling) make it tighter. Here "
            "the generator is G(z) = m + s z, so the exact divergence is known at every step: the bound is "
            f"never more than {max(excess, 0):.1f} standard errors above it. One Gaussian cannot become the "
            "two of the data, so the divergence does not reach 0.",
        ),
        code="log 2 + V(G, D) / 2 <= JSD(p || q),    logit -> slope * logit + intercept",
        tables=(
            Table(
                ("steps", "JSD, exact", "calibrated bound", "raw bound"),
                rows,
                "rrrr",
                "Nats, ± one standard error",
            ),
        ),
        plots=(_bounds(measurements), _diagram(measurements)),
    )


def _bounds(measurements: list[BoundMeasurement]) -> Picture:
    steps = [each.steps for each in measurements]

    def draw(axes: Axes) -> None:
        axes.plot(steps, [each.exact for each in measurements], color=INK, label="JSD, exact")
        bounds = [each.calibrated for each in measurements]
        axes.plot(steps, [bound.value for bound in bounds], color=BLUE, label="bound, calibrated")
        low, high = (
            [bound.value + sign * ERRORS * bound.standard_error for bound in bounds] for sign in (-1, 1)
        )
        axes.fill_between(steps, low, high, color=BLUE, alpha=0.25, linewidth=0)
        raw = [each.raw.value for each in measurements]
        axes.plot(steps, raw, color=ORANGE, linewidth=1, label="bound, raw logits")
        axes.set_ylim(-0.05, 0.75)
        axes.set(xlabel="training steps", ylabel="nats")
        legend_above(axes)

    return plot(
        draw,
        alt="The calibrated bound lies just below the exact divergence, the raw one lower",
        label="Divergence along the training",
        caption=f"The band is ± {ERRORS:g} standard errors wide.",
        size=TALL,
    )


def _diagram(measurements: list[BoundMeasurement]) -> Picture:
    last = measurements[-1]
    raw, calibrated = last.halves[:2], last.halves[2:]

    def draw(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color=INK, linewidth=0.8, linestyle="--")
        for name, colour, half in (("raw", ORANGE, raw), ("calibrated", BLUE, calibrated)):
            rows = reliability(*half)
            predicted, observed = [row.predicted for row in rows], [row.observed for row in rows]
            axes.plot(predicted, observed, "o-", color=colour, markersize=4, label=name)
        axes.set(xlabel="predicted probability of being real", ylabel="share of real items")
        legend_above(axes)

    errors = [expected_calibration_error(*half) for half in (raw, calibrated)]
    deviations = [calibration_z(*half) for half in (raw, calibrated)]
    return plot(
        draw,
        alt="Reliability of the raw and the calibrated discriminator: the latter lies on the diagonal",
        label=f"What calibration does, after {last.steps:,} steps",
        caption=f"Expected calibration error {errors[0]:.3f} raw, {errors[1]:.3f} calibrated; "
        f"Z {deviations[0]:.2f} and {deviations[1]:.2f}.",
        size=TALL,
    )
