"""Calibrates a GAN's discriminator on held-out items, and measures it on others.

Shapes: N items, D latent dimensions; logits (N,), in nats.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import numpy as np
import torch
from torch import Tensor

from service.format.specs import LogitsSpec, Metric
from service.numerics.rejection import metropolis, resampling
from training.data import Dataset, Items, Labels, Split
from training.metrics.platt import (
    Platt,
    ReliabilityRow,
    calibration_metrics,
    fit_platt,
    reliability,
    write_logits,
)
from training.models.conditions import in_batches
from training.models.gan import Gan

_ROWS = 500
_PROPOSALS = 50_000
"""The generated items whose largest logit bounds the density ratio."""
SelectionRule = Literal["resample", "metropolis"]
"""Methods of the service's filtered sampling."""
SELECTION_RULES: tuple[SelectionRule, ...] = get_args(SelectionRule)
BUDGET = 16
"""Proposals for each selected item: the service's default."""


class Logits(NamedTuple):
    """Calibrated logits of real items and of as many generated ones, each (N,)."""

    real: Tensor
    generated: Tensor


@dataclass(frozen=True)
class Discrimination:
    """A calibrated discriminator, which estimates log p_data(x) / p_G(x)."""

    platt: Platt
    fitted: Logits
    """Logits of the validation split, on which the calibration was fitted."""
    judged: Logits
    """Logits of the test split."""
    largest: float
    """The largest calibrated logit of 50 000 other generated items."""

    def metrics(self) -> dict[str, Metric]:
        """Return figures of its calibration, and a lower bound on the divergence of data and generator."""
        return calibration_metrics(
            *self.judged,
            f"{len(self.judged.real):,} test items and as many generated ones; logits are "
            f"{self.platt.slope:.4g} times the discriminator's plus {self.platt.intercept:.4g}, fitted on "
            "the validation split",
        )

    def reliability(self) -> list[ReliabilityRow]:
        """Return D(x) against the observed share of real items, in ten bins of the test items."""
        return reliability(*self.judged)

    def write(self, path: Path, labels: Labels | None = None) -> LogitsSpec:
        """Write the logits of real items, of those classes, and the largest, for filtered sampling."""
        return write_logits(path, self.fitted.real.numpy(), self.largest, labels)


def calibrate_discriminator(gan: Gan, dataset: Dataset, seed: int) -> Discrimination:
    """Fit slope and intercept of the logits on the validation split, and judge them on the test split.

    Neither split was trained on. The GAN is in evaluation mode, and its discriminator judges single items.
    Given a class condition, generated items have the classes of the real ones.
    Source: Platt 1999; for GANs Turner et al. 2019, "MH-GAN", arXiv:1811.11357, section 3.1.
    """
    random = torch.Generator().manual_seed(seed)
    proposals = np.resize(dataset.labels["validation"], _PROPOSALS)
    with torch.no_grad():
        held_out = _logits(gan, dataset, "validation", random)
        platt = fit_platt(*held_out)
        judged = _logits(gan, dataset, "test", random)
        largest = float(platt(_of_generated(gan, proposals, random)).max())
    fitted, judged = (Logits(platt(logits.real), platt(logits.generated)) for logits in (held_out, judged))
    return Discrimination(platt, fitted, judged, largest)


def select(gan: Gan, found: Discrimination, rule: SelectionRule, rows: int, seed: int) -> Items:
    """Generate items (rows, *item), each selected from `BUDGET` proposals by the calibrated discriminator.

    Metropolis chains start from the logits of real items that the calibration was fitted on.
    """
    random = torch.Generator().manual_seed(seed)
    uniforms = torch.rand(rows, BUDGET, generator=random).clamp_min(torch.finfo(torch.float32).tiny).numpy()
    with torch.no_grad():
        proposals = [gan.decode(batch) for batch in torch.split(gan.draw(rows * BUDGET, random), _ROWS)]
        logits = torch.cat([found.platt(gan.discriminate(batch)) for batch in proposals])
    table = logits.reshape(rows, BUDGET).numpy()
    if rule == "resample":
        selection = resampling(table, uniforms)
    else:
        starts = torch.randint(len(found.fitted.real), (rows,), generator=random)
        selection = metropolis(table, uniforms, found.fitted.real[starts].numpy())
    items: Items = torch.cat(proposals).numpy()[np.arange(rows) * BUDGET + selection.chosen]
    return items


def _logits(gan: Gan, dataset: Dataset, split: Split, random: torch.Generator) -> Logits:
    items, labels = torch.from_numpy(dataset.items[split]), dataset.labels[split]
    real = [model.discriminate(items[rows]) for model, rows in in_batches(gan, labels, _ROWS)]
    return Logits(torch.cat(real), _of_generated(gan, labels, random))


def _of_generated(gan: Gan, labels: Labels, random: torch.Generator) -> Tensor:
    latents = gan.draw(len(labels), random)
    batches = in_batches(gan, labels, _ROWS)
    return torch.cat([model.discriminate(model.decode(latents[rows])) for model, rows in batches])
