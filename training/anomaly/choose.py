"""Which anomaly statistic a version scores by unless told, when its recipe says `auto`.

Chosen by how well each tells planted outliers from the validation split, and by nothing that is tested on.
Shapes: N items; items (N, *item).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

from service.format.manifest import Metric, Statistic, Support
from service.numerics.noise import Floats
from training.anomaly.auroc import MEASURED, auroc_metric
from training.anomaly.calibrate import Scorer, mixed_columns
from training.anomaly.statistics import FITTED
from training.data import Dataset
from training.options import CalibrationOptions

_ROWS = 1000
"""At most so many items of the validation split are chosen on, and planted of each kind."""
_FEWEST = 100
"""Fewer rows, less than twenty for each feature of `path`, tell too little of how those vary together."""
_BLUR = 1 / 16
"""The standard deviation of the blur, over a picture's height."""


@dataclass(frozen=True)
class Choice:
    """How to calibrate, with a statistic that is settled, and why."""

    options: CalibrationOptions
    metrics: dict[str, Metric]
    """Of every statistic, if one was chosen: the AUROC for every kind of outliers, and the mean of those."""


def parted(options: CalibrationOptions, validation: Floats) -> tuple[Floats, Floats]:
    """The items of the validation split to choose on, at most half, and those to fit statistics on.

    A fitted statistic would seem better on what it was fitted on than it is, and the more so the fewer. Where
    nothing is to be chosen, all are to be fitted on.
    """
    first = min(_ROWS, len(validation) // 2) if options.statistic == "auto" else 0
    return validation[:first], validation[first:]


def settle_statistic(
    options: CalibrationOptions, scorer: Scorer, support: Support, dataset: Dataset
) -> Choice:
    """The options as they are, or for `auto` with the largest mean AUROC over the kinds of planted outliers.

    The kinds: blurred pictures and pictures of two mixed halves, or rows of mixed columns. A statistic that
    is fitted is not chosen if it was fitted on fewer than 100 rows.
    """
    if options.statistic != "auto":
        return Choice(options, {})
    items, fitted_on = parted(options, dataset.items["validation"])
    normal = scorer.surprises(items)
    found: dict[Statistic, list[Metric]] = {name: [] for name in normal}
    metrics: dict[str, Metric] = {}
    for kind, planted, what in _planted(items, support, dataset):
        for name, surprises in scorer.surprises(planted).items():
            note = f"{len(planted)} {what} against {len(normal[name])} validation items"
            metric = auroc_metric(surprises, normal[name], note)
            metrics[f"{MEASURED}{name}_{kind}"] = metric
            found[name].append(metric)
    means = {name: float(np.mean([metric.value for metric in each])) for name, each in found.items()}
    chosen = max(
        (name for name in means if name != FITTED or len(fitted_on) >= _FEWEST), key=lambda name: means[name]
    )
    for name, mean in means.items():
        note = "mean over the kinds of outliers"
        note += "; scores are by it unless told" if name == chosen else ""
        note += f"; fitted on {len(fitted_on)} rows" if name == FITTED else ""
        metrics[f"{MEASURED}{name}"] = Metric(value=mean, unit="AUROC", note=note)
    return Choice(options.model_copy(update={"statistic": chosen}), metrics)


def _planted(items: Floats, support: Support, dataset: Dataset) -> Iterator[tuple[str, Floats, str]]:
    """Outliers made of items: their kind, the outliers, and what they are."""
    random = np.random.default_rng(0)
    if len(dataset.item_shape) == 3:
        deviation = _BLUR * items.shape[2]
        blurred = gaussian_filter(items, (0, 0, deviation, deviation))
        yield "blurred", blurred.round() if support == "binary" else blurred, "blurred validation items"
        middle, others = items.shape[3] // 2, items[random.permutation(len(items))]
        halves = np.concatenate([items[..., :middle], others[..., middle:]], axis=3)
        yield "halves", halves, "pictures of two validation items' halves"
    else:
        mixed = mixed_columns(items, dataset.columns, _ROWS, random)
        yield "mixed", mixed, "rows with every column from another validation row"
