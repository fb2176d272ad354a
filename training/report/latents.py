"""The section about the latent dimensions of a VAE: their activity and their effects.

Shapes: N items, D latent dimensions, R of them shown, S places of a sweep.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from service.format.manifest import is_picture
from training.evaluation.vae import ACTIVE_VARIANCE
from training.models.conditions import given_labels
from training.models.priors import gaussian_kl
from training.models.vae import Vae
from training.report.gallery import grid
from training.report.page import Picture, Section
from training.report.plotting import BLUE, SMALL, plot
from training.report.reading import Trained

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SWEEP = torch.arange(-6, 7) / 2
"""The places (S,) of a traversal in standard deviations of the posterior mean; 0 is in the middle."""
_MOST_TRAVERSED = 10
_MOST_BARS = 64
_ROWS = 1000


@dataclass(frozen=True)
class Activity:
    """The activity of each dimension on the validation items."""

    variance: Tensor
    """Variances (D,) of the posterior mean."""
    kl: Tensor | None
    """Mean KL (D,) to the prior in nats; None for a mixture, whose KL is no sum over dimensions."""
    order: tuple[int, ...]
    """All dimensions, the most active first."""

    @property
    def active(self) -> int:
        """Return the number of active dimensions."""
        return int((self.variance > ACTIVE_VARIANCE).sum())


def measure_activity(vae: Vae, items: Tensor) -> Activity:
    """Measure the activity of every dimension on items (N, *item)."""
    mean, log_variance = vae.encode(items)
    kl = gaussian_kl(mean, log_variance).mean(0) if vae.components() is None else None
    variance = mean.var(0)
    return Activity(variance, kl, tuple(variance.argsort(descending=True).tolist()))


def traverse(vae: Vae, item: Tensor, dimension: int, deviation: float) -> Tensor:
    """Decode latents along one dimension around the posterior mean of an item (1, *item): (S, *item).

    Args:
        vae: The model.
        item: The item; its reconstruction is in the middle.
        dimension: The dimension to change.
        deviation: The unit of `SWEEP` in latent space.
    """
    mean, _ = vae.encode(item)
    latents = mean.repeat(len(SWEEP), 1)
    latents[:, dimension] += SWEEP * deviation
    return vae.likelihood.mean(vae.decode(latents))


def latents_section(vae: Vae, trained: Trained) -> Section:
    """Show the activity of the dimensions and, for pictures, traversals of the most active ones."""
    items, labels = trained.first("validation", _ROWS)
    activity = measure_activity(given_labels(vae, labels), items)
    components = vae.components()
    prior = "N(0, I)" if components is None else f"a mixture of {len(components.means)} Gaussians"
    text = [
        f"{activity.active} of {vae.latent} dimensions are active: on validation items the variance of "
        f"their posterior mean is above {ACTIVE_VARIANCE}. The prior is {prior}."
    ]
    strips: tuple[Picture, ...] = ()
    if is_picture(trained.dataset.item_shape):
        text.append(
            f"Below, one row for each of the most active dimensions: the first test item with only that "
            f"dimension changed, from {SWEEP[0]:g} to {SWEEP[-1]:+g} standard deviations of the posterior "
            f"mean in steps of {SWEEP[1] - SWEEP[0]:g}. The middle column is the item's reconstruction."
        )
        item, label = trained.first("test", 1)
        strips = tuple(_strips(given_labels(vae, label), item, activity))
    return Section("Latent dimensions", tuple(text), strips=strips, plots=(_bars(activity),))


def _strips(vae: Vae, item: Tensor, activity: Activity) -> list[Picture]:
    strips = []
    for dimension in activity.order[: min(_MOST_TRAVERSED, max(1, activity.active))]:
        variance = float(activity.variance[dimension])
        images = traverse(vae, item, dimension, variance**0.5)
        alt = f"A test item with latent dimension {dimension} changed in {len(SWEEP)} steps"
        strips.append(grid(images, len(SWEEP), alt, label=f"z{dimension}"))
    return strips


def _bars(activity: Activity) -> Picture:
    order = activity.order[:_MOST_BARS]
    heights = (activity.variance if activity.kl is None else activity.kl)[list(order)].tolist()
    what = "Variance of the posterior mean" if activity.kl is None else "KL to the prior"
    unit = "squared latent" if activity.kl is None else "nats per item"

    def draw(axes: Axes) -> None:
        axes.bar(range(len(order)), heights, color=BLUE, width=0.7)
        axes.set(xlabel="latent dimension", ylabel=unit)
        labelled = range(0, len(order), 1 + len(order) // 20)
        axes.set_xticks(list(labelled), [f"z{order[place]}" for place in labelled])
        axes.grid(visible=False, axis="x")

    few = f"; the first {_MOST_BARS} of {len(activity.order)}" if len(activity.order) > _MOST_BARS else ""
    largest = ", ".join(f"z{order[place]} {heights[place]:.3g}" for place in range(min(3, len(order))))
    return plot(
        draw,
        alt=f"{what} of each latent dimension in {unit}; most active: {largest}",
        label=f"{what}, by dimension",
        caption=f"The most active dimensions first{few}.",
        size=SMALL,
    )
