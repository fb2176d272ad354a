"""Measures a generator with the evaluator that fits the data."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from service.format.specs import Metric
from training.data import Dataset, Items
from training.data.points import MODES
from training.metrics.classifier import is_known
from training.metrics.distances import SUBSET_ROWS
from training.metrics.evaluators import Evaluator, GarmentEvaluator, ItemEvaluator, PointEvaluator
from training.metrics.names import MetricName

Sampler = Callable[[int], Items]
"""Draws a number of items, (count, *item) float32."""
_ROWS = 10_000
_CHEAP_ROWS = 2_000
_FEWEST_ROWS = 100
_CHECKED_ROWS = 100


def measure_quality(draw: Sampler, dataset: Dataset, seed: int = 0) -> dict[str, Metric]:
    """Measure what a generator draws against the test split, and a training sample in its place.

    `draw` is called once, for at most 10 000 items. Grey garments of all classes are measured with the
    shipped classifier, points of a known mixture by its modes, anything else by nearest neighbours. Figures
    of the training sample end in `_floor`: no generator can be expected to do better. Empty if there are
    fewer than 100 test items.
    """
    evaluator = make_evaluator(dataset, seed)
    if evaluator is None:
        return {}
    figures = evaluator.measure(draw(evaluator.rows)).metrics
    floor = evaluator.measure(evaluator.stand_in).metrics
    return figures | {str(MetricName("floor", name)): metric for name, metric in floor.items()}


def quality_names(metrics: Mapping[str, Metric]) -> set[str]:
    """Return the names of the metrics that a training sample has too."""
    return {name for name in metrics if str(MetricName("floor", name)) in metrics}


def make_evaluator(dataset: Dataset, seed: int = 0) -> Evaluator | None:
    """Make the evaluator that fits the data; None if there are too few test items."""
    rows = min(_ROWS, len(dataset.items["test"]), len(dataset.items["train"]))
    if rows < _FEWEST_ROWS:
        return None
    if dataset.kind in MODES:
        return PointEvaluator(dataset, rows)
    halved = min(rows, len(dataset.items["train"]) // 2)
    grey = not np.isin(dataset.items["test"][:_CHECKED_ROWS], (0, 1)).all()
    if is_known(dataset) and grey and halved >= 2 * SUBSET_ROWS:
        return GarmentEvaluator(dataset, halved, seed)
    return ItemEvaluator(dataset, min(rows, _CHEAP_ROWS))
