"""Class counts of real and generated items. Shapes: C classes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.special import rel_entr

from training.metrics.distances import Estimate

Counts = npt.NDArray[np.int64]

_BOOTSTRAPS = 1000


def class_divergence(real: Counts, generated: Counts, random: np.random.Generator) -> Estimate:
    """Return KL(generated || real) of the class shares, in nats, from counts (C,) of each.

    The standard error is that of resampled counts. A ValueError is raised if a class has no real items.
    """
    if (real == 0).any():
        raise ValueError(f"the real items have {real.tolist()} of each class; wanted some of every class")
    again = (
        random.multinomial(each.sum(), each / each.sum(), size=_BOOTSTRAPS) for each in (real, generated)
    )
    return Estimate(float(_divergence(real, generated)), float(np.std(_divergence(*again), ddof=1)))


def class_divergence_floor(classes: int, real: int, generated: int) -> float:
    """Return the expected divergence of equal shares by chance: (C - 1) (1 / N + 1 / M) / 2 nats.

    This is the second-order expansion of KL, with the variances of N real and M generated multinomial counts.
    """
    return (classes - 1) / 2 * (1 / real + 1 / generated)


def _divergence(real: Counts, generated: Counts) -> npt.NDArray[np.float64]:
    shares = (counts / counts.sum(-1, keepdims=True) for counts in (generated, real))
    divergences: npt.NDArray[np.float64] = rel_entr(*shares).sum(-1)
    return divergences
