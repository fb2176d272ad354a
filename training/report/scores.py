"""The sections about the measured figures and the ELBO of single items."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from service.format.specs import Metric
from training.data import Labels
from training.loop.noise import Noise
from training.metrics.names import figure_texts
from training.models.conditions import in_batches
from training.models.vae import Vae, elbo, score_terms
from training.recipe import Recipe, shipped_recipe
from training.report.page import Picture, Section, Table
from training.report.plotting import BLUE, ORANGE, PURPLE, legend_above, plot
from training.report.reading import Trained

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Values = npt.NDArray[np.float64]

_DRAWS = 4
_MOST_ITEMS = 1000
_ROWS = 250
"""Items per batch."""
_BINS = 40
_COLOURS = {"train": BLUE, "test": ORANGE, "outliers": PURPLE}
_FARTHEST = 2.0
"""The farthest that outliers extend the axis, over the width of the other items' range."""


def scores_section(recipe: Recipe, metrics: Mapping[str, Metric] | None, folder: Path) -> Section:
    """Show the figures of the run's evaluation, or the command that measures them."""
    if metrics is None:
        name = shipped_recipe(recipe.name) or "RECIPE"
        command = f"pushforward train evaluate {name} --runs {shlex.quote(str(folder.parent))}"
        return Section("Scores", ("This model has not been measured yet. Measure it with",), code=command)
    rows = tuple(
        (name.replace("_", " "), *figure_texts(metric), metric.unit, metric.note)
        for name, metric in metrics.items()
    )
    table = Table(("figure", "value", "standard error", "unit", "how"), rows, align="lrrll")
    return Section("Scores", ("Measured on the test split, with the averaged weights.",), tables=(table,))


def histogram_section(vae: Vae, trained: Trained) -> Section:
    """Show the ELBO of training items, test items and outliers."""
    parts: tuple[Literal["train", "test", "outliers"], ...] = ("train", "test", "outliers")
    values: dict[str, Values] = {}
    for part in parts:
        items, labels = trained.first(part, _MOST_ITEMS)
        if len(items):
            values[part] = item_elbos(vae, items, labels, trained.noise())
    text = [
        f"At most {_MOST_ITEMS:,} items of each kind, {_DRAWS} draws per item. If test items scored far "
        "below training items, the model would have overfitted."
    ]
    if "outliers" in values:
        text.append("Outliers are items of the classes that were kept out; their values should be lower.")
    return Section("The ELBO of single items", tuple(text), plots=(_histogram(values),))


def item_elbos(vae: Vae, items: Tensor, labels: Labels, noise: Noise) -> Values:
    """Compute the ELBO of items (N, *item) with labels (N,) in nats, (N,); each has the same few draws."""
    eps = noise.normal(_DRAWS, vae.latent)
    parts = [
        elbo(score_terms(model, items[rows], eps.expand(len(items[rows]), -1, -1)))
        for model, rows in in_batches(vae, labels, _ROWS)
    ]
    return torch.cat(parts).double().numpy()


def _histogram(values: Mapping[str, Values]) -> Picture:
    low, high = _range(values)
    edges = np.linspace(low, high, _BINS + 1)
    beyond = sum(int(((each < low) | (each > high)).sum()) for each in values.values())

    def draw(axes: Axes) -> None:
        axes.locator_params(axis="x", nbins=6)
        for name, each in values.items():
            shares = np.histogram(each.clip(low, high), edges)[0] / len(each)
            colour = _COLOURS[name]
            axes.stairs(shares, edges, fill=True, alpha=0.25, color=colour)
            axes.stairs(shares, edges, color=colour, label=name)
        axes.set(xlabel="ELBO, nats per item", ylabel="share of items")
        legend_above(axes)

    ends = f" {beyond} items beyond either end are counted in the outermost bins." if beyond else ""
    medians = ", ".join(f"{name} {np.median(each):,.1f}" for name, each in values.items())
    return plot(
        draw,
        alt=f"Histograms of the ELBO in nats per item; medians: {medians}",
        label="Higher is likelier under the model",
        caption=f"Medians: {medians}.{ends}",
    )


def _range(values: Mapping[str, Values]) -> tuple[float, float]:
    """Return the axis range: nearly all ELBOs of training and test items, and outliers up to a limit."""
    known = np.concatenate([values["train"], values["test"]])
    low, high = np.quantile(known, [0.005, 0.995])
    width = max(high - low, 1e-6 * max(1.0, abs(high)))
    if "outliers" in values:
        farthest = np.quantile(values["outliers"], [0.005, 0.995])
        low = max(low - _FARTHEST * width, min(low, farthest[0]))
        high = min(high + _FARTHEST * width, max(high, farthest[1]))
    return float(low), float(max(high, low + width))
