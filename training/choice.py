"""Which anomaly statistic a version scores by unless told, when its recipe says `auto`.

Chosen by how well each tells planted outliers from the validation split, and by nothing that is tested on.
Shapes: N items; items (N, *item).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from scipy.ndimage import gaussian_filter
from scipy.stats import rankdata

from service.calibration import Doubles
from service.contract import Metric, Statistic, Support
from training.card import MEASURED
from training.data import Dataset
from training.options import CalibrationOptions
from training.parity import Floats
from training.scoring import Scorer, mixed_columns

_ROWS = 1000
"""At most so many items of each kind."""
_BLUR = 1 / 16
"""The standard deviation of the blur, over a picture's height."""


@dataclass(frozen=True)
class Choice:
    """How to calibrate, with a statistic that is settled, and why."""

    options: CalibrationOptions
    metrics: dict[str, Metric]
    """Of every statistic, if one was chosen: the AUROC for every kind of outliers, and the mean of those."""
    rest: Dataset
    """The dataset without those of its outliers that were chosen on."""


def settle_statistic(
    options: CalibrationOptions, scorer: Scorer, support: Support, dataset: Dataset
) -> Choice:
    """The options as they are, or for `auto` with the largest mean AUROC over the kinds of planted outliers.

    The kinds: blurred pictures and pictures of two mixed halves, or rows of mixed columns; and one half of
    the items of classes that were kept out, if any were. The other half is left to be judged on.
    """
    if options.statistic != "auto":
        return Choice(options, {}, dataset)
    normal = scorer.surprises(dataset.items["validation"][:_ROWS])
    found: dict[Statistic, list[Metric]] = {name: [] for name in normal}
    metrics: dict[str, Metric] = {}
    for kind, items, what in _planted(support, dataset):
        for name, surprises in scorer.surprises(items).items():
            metric = _auroc_metric(surprises, normal[name], what)
            metrics[f"{MEASURED}{name}_{kind}"] = metric
            found[name].append(metric)
    means = {name: float(np.mean([metric.value for metric in each])) for name, each in found.items()}
    chosen = max(means, key=lambda name: means[name])
    for name, mean in means.items():
        note = "mean over the kinds of outliers"
        note += "; the largest, so scores are by it unless told" if name == chosen else ""
        metrics[f"{MEASURED}{name}"] = Metric(value=mean, unit="AUROC", note=note)
    settled = options.model_copy(update={"statistic": chosen})
    return Choice(settled, metrics, replace(dataset, outliers=_halves(dataset)[1]))


def auroc(outliers: Doubles, normal: Doubles) -> float:
    """The chance that an outlier surprises more than a normal item, where a tie counts as half."""
    count = len(outliers)
    ranks = rankdata(np.concatenate([outliers, normal]))[:count]
    return float((ranks.sum() - count * (count + 1) / 2) / (count * len(normal)))


def _auroc_metric(outliers: Doubles, normal: Doubles, what: str) -> Metric:
    """With its standard error. Source: Hanley & McNeil 1982, Radiology 143(1), equation 1."""
    a = auroc(outliers, normal)
    one, other = a / (2 - a) - a * a, 2 * a * a / (1 + a) - a * a
    variance = a * (1 - a) + (len(outliers) - 1) * one + (len(normal) - 1) * other
    return Metric(
        value=a,
        standard_error=math.sqrt(max(variance, 0.0) / (len(outliers) * len(normal))),
        unit="AUROC",
        note=f"{len(outliers)} {what} against {len(normal)} validation items",
    )


def _planted(support: Support, dataset: Dataset) -> Iterator[tuple[str, Floats, str]]:
    """Outliers made of the validation split, and half of those kept out: their kind, and what they are."""
    items, random = dataset.items["validation"][:_ROWS], np.random.default_rng(0)
    if len(dataset.item_shape) == 3:
        deviation = _BLUR * items.shape[2]
        blurred = gaussian_filter(items, (0, 0, deviation, deviation))
        yield "blurred", blurred.round() if support == "binary" else blurred, "blurred validation items"
        middle, others = items.shape[3] // 2, items[random.permutation(len(items))]
        halves = np.concatenate([items[..., :middle], others[..., middle:]], axis=3)
        yield "halves", halves, "pictures of two validation items' halves"
    else:
        mixed = mixed_columns(dataset, "validation", len(items), random)
        yield "mixed", mixed, "rows with every column from another validation row"
    chosen, _ = _halves(dataset)
    if chosen is not None:
        yield "kept_out", chosen[:_ROWS], "items of the classes that were kept out"


def _halves(dataset: Dataset) -> tuple[Floats | None, Floats | None]:
    """The outliers to choose on and those to judge on; a single one is only judged on."""
    outliers = dataset.outliers
    if outliers is None or len(outliers) < 2:
        return None, outliers
    return outliers[::2], outliers[1::2]
