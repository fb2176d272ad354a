"""AUROC of anomaly scores on unseen outliers.

Shapes: N items; items (N, *item).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from scipy.stats import beta, bootstrap, rankdata

from service.format.manifest import Support
from service.format.specs import Metric
from service.format.statistics import Statistic
from service.numerics.noise import Doubles
from training.anomaly.calibrate import StatisticScorer
from training.anomaly.outliers import Outliers, mislabelled, ordinary_items, unseen_outliers
from training.data import Dataset
from training.metrics.names import Group, MetricName

_CONFIDENCE = 0.95
"""The share of intervals that hold the true area."""


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

    Samples of two sides that do not overlap are all alike, which tells nothing of their error. So an interval
    that reaches 0 or 1 is widened to that of `_pairs_interval`.
    """
    value, pairs = float(auroc(outliers, normal)), min(len(outliers), len(normal))
    if pairs < 2:
        return Metric(value=value, unit="AUROC", note=note)
    drawn = bootstrap(
        (outliers, normal), auroc, n_resamples=500, confidence_level=_CONFIDENCE,
        method="percentile", vectorized=True, batch=50, rng=np.random.default_rng(0),
    )  # fmt: skip
    low, high = map(float, drawn.confidence_interval)
    if low == 0 or high == 1:
        least, most = _pairs_interval(value, pairs)
        low, high = min(low, least), max(high, most)
    error = float(drawn.standard_error) or None
    return Metric(value=value, standard_error=error, interval=(low, high), unit="AUROC", note=note)


def _pairs_interval(area: float, pairs: int) -> tuple[float, float]:
    """Return the interval of an area for as many disjoint pairs of items as the smaller side allows.

    If all items are in order, all disjoint pairs are, each by the true area, so the interval is exact then.
    Elsewhere it is cautious: an area varies at most as the share of such pairs does (Birnbaum & Klose 1957,
    "Bounds for the Variance of the Mann-Whitney Statistic", Ann. Math. Statist. 28). Source: Clopper &
    Pearson 1934, "The use of confidence or fiducial limits illustrated in the case of the binomial".
    """
    tail, ordered, others = (1 - _CONFIDENCE) / 2, area * pairs, (1 - area) * pairs
    low = 0.0 if ordered == 0 else float(beta.ppf(tail, ordered, others + 1))
    high = 1.0 if others == 0 else float(beta.ppf(1 - tail, ordered + 1, others))
    return low, high
