"""How well anomaly scores tell outliers from normal items.

Shapes: N items; items (N, *item).
"""

from __future__ import annotations

import numpy as np
from scipy.stats import bootstrap, rankdata

from service.format.manifest import Metric, Support
from service.numerics.noise import Doubles
from training.anomaly.calibrate import Scorer
from training.anomaly.outliers import unseen_outliers
from training.data import Dataset

AUROC = "auroc_"
"""How the names of the figures begin that tell how an anomaly statistic does on unseen outliers."""
MEASURED = "validation_auroc_"
"""How the names of the figures begin that an anomaly statistic was chosen by."""
_RESAMPLES = 500
_CONFIDENCE = 0.95


def judge(scorer: Scorer, support: Support, dataset: Dataset) -> dict[str, Metric]:
    """How each statistic of a version tells test items from outliers of kinds that it was not made by.

    Returns:
        `auroc_STATISTIC_KIND` for every statistic and kind of outliers.
    """
    normal = scorer.surprises(dataset.items["test"])
    metrics: dict[str, Metric] = {}
    for kind, items, what in unseen_outliers(dataset, support):
        for name, surprises in scorer.surprises(items).items():
            note = f"{len(items)} {what} against {len(normal[name])} test items"
            metrics[f"{AUROC}{name}_{kind}"] = auroc_metric(surprises, normal[name], note)
    return metrics


def auroc(outliers: Doubles, normal: Doubles, axis: int = -1) -> Doubles:
    """The chance that an outlier surprises more than a normal item, where a tie counts as half.

    The statistic of Mann and Whitney; any number of pairs of samples at once, each along `axis`.
    """
    count, others = outliers.shape[axis], normal.shape[axis]
    ranks = rankdata(np.concatenate([outliers, normal], axis=axis), axis=axis)
    among = np.take(ranks, np.arange(count), axis=axis).sum(axis=axis)
    share: Doubles = (among - count * (count + 1) / 2) / (count * others)
    return share


def auroc_metric(outliers: Doubles, normal: Doubles, note: str) -> Metric:
    """The area with its standard error and interval: percentiles over bootstrap samples of both sides.

    Each side is drawn anew by itself, so that of outliers made of the very normal items is only about right.
    Source: Efron & Tibshirani 1993, "An Introduction to the Bootstrap", chapter 13.
    """
    value = float(auroc(outliers, normal))
    if min(len(outliers), len(normal)) < 2:
        return Metric(value=value, unit="AUROC", note=note)
    drawn = bootstrap(
        (outliers, normal), auroc, n_resamples=_RESAMPLES, confidence_level=_CONFIDENCE,
        method="percentile", vectorized=True, batch=50, rng=np.random.default_rng(0),
    )  # fmt: skip
    low, high = drawn.confidence_interval
    return Metric(
        value=value,
        standard_error=float(drawn.standard_error),
        interval=(float(low), float(high)),
        unit="AUROC",
        note=note,
    )
