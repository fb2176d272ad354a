"""The scale of heat maps: the surprise of ordinary pixels."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from service.format.manifest import is_picture
from service.format.specs import GraphName
from service.numerics.classes import one_hot
from service.numerics.noise import Floats, Integers
from training.anomaly.running import RunGraph, batches_of, on_all_cores

_ROWS = 2048
_ORDINARY = 0.99


def map_scale(
    runs: Mapping[GraphName, RunGraph], items: Floats, labels: Integers, classes: int
) -> float | None:
    """Return the surprise that 1 in 100 pixels of held-out pictures exceed, their channels added.

    There is one number for all pixels: a quantile for each, as it is or smoothed, told lines on garments and
    digits no better from the rest of the picture. Without a graph `map`, or pictures, there is none.

    Args:
        runs: Run the graphs of a version by name.
        items: (N, *item), N > 0, of which at most 2 048 are used; the model was not trained on them.
        labels: The classes of the items, (N,).
        classes: Their number, if the graph takes them; else 0.
    """
    if "map" not in runs or not is_picture(items.shape[1:]):
        return None
    pictures = items[:_ROWS]
    of_pictures = one_hot(labels[:_ROWS], len(pictures), classes) if classes else None
    batches = batches_of(pictures, of_pictures)
    added = on_all_cores(lambda batch: runs["map"](batch)[0].astype(np.float64).sum(axis=1).ravel(), batches)
    surprises = np.concatenate(added)
    return float(max(np.quantile(surprises, _ORDINARY), np.finfo(np.float32).tiny))
