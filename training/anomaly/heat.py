"""The scale of heat maps: the surprise of ordinary pixels."""

from __future__ import annotations

import math

import numpy as np

from service.numerics.noise import Floats
from training.anomaly.calibrate import RunGraph
from training.data.batches import rows_at_once

_ROWS, _AT_ONCE = 2048, 256
_ORDINARY = 0.99


def map_scale(run: RunGraph, pictures: Floats, labels: Floats | None = None) -> float:
    """Return the surprise that 1 in 100 pixels of held-out pictures exceed, their channels added.

    There is one number for all pixels: a quantile for each, as it is or smoothed, told lines on garments and
    digits no better from the rest of the picture.

    Args:
        run: Runs the graph `map` on pictures.
        pictures: (N, C, H, W), N > 0, of which at most 2 048 are used; the model was not trained on them.
        labels: The classes of the pictures, one-hot, if the graph takes them.
    """
    few = [given[:_ROWS] for given in (pictures, labels) if given is not None]
    at_once = rows_at_once(_AT_ONCE, math.prod(pictures.shape[1:]))
    starts = range(0, len(few[0]), at_once)
    batches = (run([given[start : start + at_once] for given in few])[0] for start in starts)
    surprises = np.concatenate([maps.astype(np.float64).sum(axis=1).ravel() for maps in batches])
    return float(max(np.quantile(surprises, _ORDINARY), np.finfo(np.float32).tiny))
