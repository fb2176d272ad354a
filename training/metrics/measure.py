"""The one way for the rest of the program to measure what a generator draws."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from service.format.manifest import Metric
from training.data import Dataset, Items
from training.data.points import MODES
from training.metrics.distances import SUBSET_ROWS
from training.metrics.evaluators import Evaluator, GarmentEvaluator, ItemEvaluator, PointEvaluator

Draw = Callable[[int], Items]
"""Draws so many items, (count, *item) float32."""

FLOOR = "_floor"
"""Ends the names of figures that a training sample has in the generator's place."""
_ROWS = 10_000
_CHEAP_ROWS = 2_000
_LEAST_ROWS = 100
_LOOKED_AT = 100


def measure_quality(draw: Draw, dataset: Dataset, seed: int = 0) -> dict[str, Metric]:
    """Measure what a generator draws against the test split, and a training sample in its place.

    Garments in grey are measured by the shipped classifier, points of a known mixture by its modes, anything
    else by nearest neighbours. Figures of the training sample end in `_floor`: no generator can be expected
    to do better. Empty if there are fewer than 100 test items.

    Args:
        draw: The generator; asked once, for at most 10 000 items.
        dataset: Where real items come from.
        seed: Of all resampling; equal arguments give equal figures.
    """
    evaluator = make_evaluator(dataset, seed)
    if evaluator is None:
        return {}
    figures = evaluator.measure(draw(evaluator.rows)).metrics
    floor = evaluator.measure(evaluator.stand_in).metrics
    return figures | {f"{name}{FLOOR}": metric for name, metric in floor.items()}


def quality_names(metrics: Mapping[str, Metric]) -> set[str]:
    """The names of the figures that a training sample's stand beside."""
    return {name for name in metrics if name + FLOOR in metrics}


def make_evaluator(dataset: Dataset, seed: int = 0) -> Evaluator | None:
    """What fits the data best; None if there are too few test items to say anything."""
    rows = min(_ROWS, len(dataset.items["test"]), len(dataset.items["train"]))
    if rows < _LEAST_ROWS:
        return None
    if dataset.name in MODES:
        return PointEvaluator(dataset, rows)
    halved = min(rows, len(dataset.items["train"]) // 2)
    grey = dataset.name == "fashion-mnist" and not _is_binary(dataset.items["test"])
    if grey and halved >= 2 * SUBSET_ROWS:
        return GarmentEvaluator(dataset, halved, seed)
    return ItemEvaluator(dataset, min(rows, _CHEAP_ROWS))


def _is_binary(items: Items) -> bool:
    return bool(np.isin(items[:_LOOKED_AT], (0, 1)).all())
