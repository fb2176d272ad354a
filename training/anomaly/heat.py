"""The scale of heat maps: the surprise of ordinary pixels."""

from __future__ import annotations

import numpy as np

from service.numerics.noise import Floats
from training.anomaly.running import RunGraph, batches_of, on_all_cores

_ROWS = 2048
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
    batches = batches_of(pictures[:_ROWS], None if labels is None else labels[:_ROWS])
    added = on_all_cores(lambda batch: run(batch)[0].astype(np.float64).sum(axis=1).ravel(), batches)
    surprises = np.concatenate(added)
    return float(max(np.quantile(surprises, _ORDINARY), np.finfo(np.float32).tiny))
