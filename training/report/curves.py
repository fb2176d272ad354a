"""Curves of all quantities that a run has logged."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from training.loop.run_log import VALIDATION
from training.report.page import Picture, Section
from training.report.plotting import BLUE, GREEN, ORANGE, PURPLE, SMALL, WIDE, legend_above, plot
from training.report.reading import Series

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_TRAINING_COLOURS = (BLUE, GREEN, PURPLE)
_VALIDATION_COLOURS = (ORANGE, PURPLE)
_MOST_POINTS = 400
"""The most points of one curve; more are averaged, since no screen could show them."""
_EARLY = 0.1
"""The share of the steps, at the beginning, whose values may lie outside the vertical axis."""
_SQUASHED = 2.0
"""Early values lie outside only if they would make the axis longer by more than this factor."""


@dataclass(frozen=True)
class _Panel:
    """Quantities that share an axis."""

    title: str
    unit: str
    labels: Mapping[str, str]
    """The label of each logged name in the plot."""
    logarithmic: bool = False
    size: tuple[float, float] = WIDE


_PANELS = (
    _Panel(
        "Bound on log p(x)",
        "nats per item",
        {
            "elbo": "ELBO, training",
            "importance_bound": "importance-weighted, training",
            "validation_elbo": "ELBO, validation",
            "validation_weighted_elbo": "ELBO with the recipe's KL weight, validation",
            "validation_importance_bound": "importance-weighted, validation",
        },
    ),
    _Panel(
        "Its first term, E[log p(x|z)]",
        "nats per item",
        {"log_likelihood": "training", "validation_log_likelihood": "validation"},
    ),
    _Panel(
        "Its second term, KL(q(z|x) ‖ p(z))",
        "nats per item",
        {"kl": "training", "validation_kl": "validation"},
    ),
    _Panel(
        "Losses",
        "nats per item",
        {"discriminator_loss": "discriminator", "generator_loss": "generator"},
    ),
    _Panel(
        "The discriminator's logits", "nats", {"real_logit": "real items", "fake_logit": "generated items"}
    ),
    _Panel(
        "Terms of the game's value, held-out items",
        "nats per item",
        {
            "validation_log_d_real": "E[log D(x)]",
            "validation_log_one_minus_d_fake": "E[log(1 - D(G(z)))]",
        },
    ),
    _Panel(
        "Lower bound on the Jensen-Shannon divergence, at most log 2",
        "nats",
        {"validation_jsd_bound": "validation"},
    ),
    _Panel(
        "Distance between generated items, over that between held-out ones",
        "ratio",
        {"validation_distance_ratio": "validation"},
    ),
    _Panel("R1 penalty", "half the squared slope of the logit", {"r1_penalty": "real items"}),
    _Panel(
        "Gradient norms, before clipping",
        "norm",
        {
            "vae_gradient_norm": "whole model",
            "discriminator_gradient_norm": "discriminator",
            "generator_gradient_norm": "generator",
        },
        logarithmic=True,
    ),
    _Panel("Learning rate", "per step", {"learning_rate": "learning rate"}, size=SMALL),
    _Panel("Speed", "items per second", {"items_per_second": "training"}, size=SMALL),
)


def curves_section(metrics: Mapping[str, Series]) -> Section:
    """Plot every group of related logged quantities over the steps."""
    if not metrics:
        return Section("Curves", ("Nothing has been logged yet.",))
    panels = [*_PANELS, *_others(metrics)]
    drawn = tuple(_drawn(panel, metrics) for panel in panels if panel.labels.keys() & metrics.keys())
    return Section(
        "Curves",
        (
            "Training figures are means over the steps since the last entry, with the weights of each step; "
            "validation figures are those of the averaged weights, with the same noise each time.",
        ),
        plots=drawn,
    )


def _others(metrics: Mapping[str, Series]) -> Iterator[_Panel]:
    """Make a panel for each quantity that no other panel shows, with training and validation."""
    known = {name for panel in _PANELS for name in panel.labels}
    quantities = {name.removeprefix(VALIDATION) for name in metrics if name not in known}
    for name in sorted(quantities):
        labels = {name: "training", VALIDATION + name: "validation"}
        yield _Panel(name.replace("_", " "), "", labels)


def _drawn(panel: _Panel, metrics: Mapping[str, Series]) -> Picture:
    shown = {name: metrics[name] for name in panel.labels if name in metrics}
    window, caption = (None, "") if panel.logarithmic else _window(list(shown.values()))

    def draw(axes: Axes) -> None:
        _draw(axes, panel, shown)
        if window is not None:
            axes.set_ylim(*window)

    ends = "; ".join(f"{panel.labels[name]} {series.values[-1]:.5g}" for name, series in shown.items())
    alt = f"{panel.title} over steps, in {panel.unit or 'its own unit'}. Last values: {ends}."
    return plot(draw, alt=alt, label=panel.title, caption=caption, size=panel.size)


def _draw(axes: Axes, panel: _Panel, shown: Mapping[str, Series]) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

    colours = {True: iter(_VALIDATION_COLOURS), False: iter(_TRAINING_COLOURS)}
    for name, series in shown.items():
        validated = name.startswith(VALIDATION)
        thin = _thinned(series)
        marker = "o" if validated or len(thin.steps) == 1 else ""
        colour = next(colours[validated])
        axes.plot(
            thin.steps, thin.values, color=colour, label=panel.labels[name], marker=marker, markersize=3
        )
    axes.set_xlim(left=0)
    axes.set(xlabel="step", ylabel=panel.unit)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda step, _: f"{step:,.0f}"))
    axes.ticklabel_format(axis="y", style="plain", useOffset=False)
    if panel.logarithmic and all((series.values > 0).all() for series in shown.values()):
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
    if len(shown) > 1:
        legend_above(axes)


def _thinned(series: Series) -> Series:
    """Average neighbouring points, so that at most `_MOST_POINTS` are left."""
    parts = max(1, math.ceil(len(series.steps) / _MOST_POINTS))
    first = np.arange(0, len(series.steps), parts)
    counts = np.diff(np.append(first, len(series.steps)))
    steps, values = (np.add.reduceat(each, first) / counts for each in (series.steps, series.values))
    return Series(steps, values)


def _window(shown: list[Series]) -> tuple[tuple[float, float] | None, str]:
    """Return the vertical range without early outliers and a sentence about it; None without outliers."""
    steps = np.concatenate([series.steps for series in shown])
    values = np.concatenate([series.values for series in shown])
    end_of_early = _EARLY * steps.max()
    settled = values[steps > end_of_early]
    low, high = settled.min(), settled.max()
    if high <= low or values.max() - values.min() <= _SQUASHED * (high - low):
        return None, ""
    margin = 0.06 * (high - low)
    window = (low - margin, high + margin)
    outside = int(((values < window[0]) | (values > window[1])).sum())
    return window, (
        f"The axis spans the values after step {end_of_early:,.0f}; "
        f"{outside} earlier {'point lies' if outside == 1 else 'points lie'} outside it."
    )
