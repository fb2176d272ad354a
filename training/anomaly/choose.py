"""Chooses a version's default anomaly statistic, when its recipe says `auto`.

A table's is `kernel_density`. Without that, it is the statistic that best separates made outliers
from the validation split; no test item is used. Shapes: N items; items (N, *item).
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from service.format.manifest import Support
from service.format.specs import Metric
from service.format.statistics import NoiseFree, Statistic
from training.anomaly.auroc import auroc_metrics
from training.anomaly.calibrate import StatisticScorer
from training.anomaly.outliers import Outliers, planted_outliers, planted_rows
from training.anomaly.path import FITTED
from training.data import Dataset, Items
from training.metrics.names import MetricName
from training.options import CalibrationOptions

OF_TABLES: NoiseFree = "kernel_density"
"""The statistic that is chosen wherever there is one. On tables with real outliers, planted ones chose worse
than the ELBO alone, and this one is better than both: docs/tables.md."""
FEWEST_ROWS = 100
"""The fewest rows to fit `path` on; fewer are less than twenty for each of its features."""


@dataclass(frozen=True)
class ChosenStatistic:
    """Calibration options that name a statistic, and the reason for it."""

    options: CalibrationOptions
    metrics: dict[str, Metric]
    """AUROC of every statistic for each kind of outliers, and its mean; empty if nothing was chosen."""


def split_validation(options: CalibrationOptions, validation: Items) -> tuple[Items, Items]:
    """Split the validation items into those to choose on, at most half, and those to fit statistics on.

    A statistic looks too good on the items it was fitted on, the more so if they are few. If nothing is to
    be chosen, all items are for fitting.
    """
    most = min(planted_rows(validation.shape[1:]), len(validation) // 2)
    first = most if options.statistic == "auto" else 0
    return validation[:first], validation[first:]


def choose_statistic(
    options: CalibrationOptions, scorer: StatisticScorer, support: Support, dataset: Dataset
) -> ChosenStatistic:
    """Replace `auto` by the statistic with the largest mean AUROC over the kinds of planted outliers.

    A kernel density is always chosen if there is one; the figures are measured nevertheless.
    `path` is not chosen if it was fitted on fewer than 100 rows.
    """
    if options.statistic != "auto":
        return ChosenStatistic(options, {})
    items, fitted_on = split_validation(options, dataset.items["validation"])
    labels = dataset.labels["validation"][: len(items)]
    normal = Outliers("validation", items, "validation items", labels)
    planted = planted_outliers(normal, dataset, support)
    ordinary = scorer.of(labels).surprises(items)
    metrics = auroc_metrics("validation_auroc", scorer, normal, ordinary, planted)
    areas: defaultdict[Statistic | None, list[float]] = defaultdict(list)
    for name, metric in metrics.items():
        areas[name.statistic].append(metric.value)
    means = {statistic: float(np.mean(values)) for statistic, values in areas.items()}
    eligible = [each for each in means if each != FITTED or len(fitted_on) >= FEWEST_ROWS]
    chosen = OF_TABLES if OF_TABLES in means else max(eligible, key=lambda statistic: means[statistic])
    for statistic, mean in means.items():
        note = "mean over the kinds of outliers"
        note += "; scores are by it unless told" if statistic == chosen else ""
        note += f"; fitted on {len(fitted_on)} rows" if statistic == FITTED else ""
        name = MetricName("validation_auroc", statistic=statistic)
        metrics[name] = Metric(value=mean, unit="AUROC", note=note)
    settled = options.model_copy(update={"statistic": chosen})
    return ChosenStatistic(settled, {str(name): metric for name, metric in metrics.items()})
