"""AUROC of anomaly scores on unseen outliers.

Shapes: N items; items (N, *item).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from scipy.stats import bootstrap, rankdata

from service.format.manifest import Support
from service.format.specs import Metric
from service.format.statistics import Statistic
from service.numerics.noise import Doubles
from training.anomaly.calibrate import StatisticScorer
from training.anomaly.outliers import Outliers, mislabelled, ordinary_items, unseen_outliers
from training.data import Dataset
from training.metrics.names import Group, MetricName


def judge(
    scorer: StatisticScorer, support: Support, dataset: Dataset, ordinary: Mapping[Statistic, Doubles]
) -> dict[str, Metric]:
    """Measure how well each statistic separates test items from each kind of unseen outliers.

    `ordinary` are the surprises of the test items. With a class condition, test items that are called another
    class are a kind too.
    """
    outliers = list(unseen_outliers(dataset, support))
    if scorer.given is not None:
        outliers.append(mislabelled(dataset))
    areas = auroc_metrics("auroc", scorer, ordinary_items(dataset), ordinary, outliers)
    return {str(name): metric for name, metric in areas.items()}


def auroc_metrics(
    group: Group,
    scorer: StatisticScorer,
    normal: Outliers,
    ordinary: Mapping[Statistic, Doubles],
    kinds: Iterable[Outliers],
) -> dict[MetricName, Metric]:
    """Measure how well each statistic separates normal items, whose surprises come, from outliers."""
    metrics: dict[MetricName, Metric] = {}
    for kind, outliers, phrase, labels in kinds:
        for name, surprises in scorer.of(labels).surprises(outliers).items():
            note = f"{len(outliers)} {phrase} against {len(normal.items)} {normal.what}"
            metrics[MetricName(group, kind, name)] = auroc_metric(surprises, ordinary[name], note)
    return metrics


def auroc(outliers: Doubles, normal: Doubles, axis: int = -1) -> Doubles:
    """Return the probability that an outlier surprises more than a normal item; a tie counts as half.

    This is the statistic of Mann and Whitney, for any number of pairs of samples at once, each along `axis`.
    """
    count, others = outliers.shape[axis], normal.shape[axis]
    ranks = rankdata(np.concatenate([outliers, normal], axis=axis), axis=axis)
    among = np.take(ranks, np.arange(count), axis=axis).sum(axis=axis)
    share: Doubles = (among - count * (count + 1) / 2) / (count * others)
    return share


def auroc_metric(outliers: Doubles, normal: Doubles, note: str) -> Metric:
    """Return the AUROC with its standard error and percentile interval over bootstrap samples of both sides.

    Both sides are resampled independently, so for outliers made of the normal items themselves the interval
    is approximate. Source: Efron & Tibshirani 1993, "An Introduction to the Bootstrap", chapter 13.
    """
    value = float(auroc(outliers, normal))
    if min(len(outliers), len(normal)) < 2:
        return Metric(value=value, unit="AUROC", note=note)
    drawn = bootstrap(
        (outliers, normal), auroc, n_resamples=500, confidence_level=0.95,
        method="percentile", vectorized=True, batch=50, rng=np.random.default_rng(0),
    )  # fmt: skip
    error, (low, high) = float(drawn.standard_error), map(float, drawn.confidence_interval)
    return Metric(value=value, standard_error=error, interval=(low, high), unit="AUROC", note=note)
