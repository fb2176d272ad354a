"""Counts the modes of a known mixture of Gaussians in the plane that samples cover, and how well.

Every mode is N(centre, deviation^2 I). A sample belongs to the nearest mode, and is of high quality if it
lies within three standard deviations of it. Source: Srivastava et al. 2017 (VEEGAN), arXiv:1705.07761,
section 5.1; Lin et al. 2018 (PacGAN), arXiv:1712.04086, section 4.1. Shapes: N samples, M modes.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from sklearn.metrics import pairwise_distances_argmin_min

from training.data.dataset import FloatArray

HIGH_QUALITY_DEVIATIONS = 3.0
"""A sample is of high quality if it is at most this many standard deviations from its nearest mode."""


class ModeReport(NamedTuple):
    """Figures of N samples of a mixture with M modes; the ratios are NaN if no mode has two samples."""

    samples: int
    """N."""
    modes: int
    """M."""
    modes_captured: int
    """Modes with at least one sample of high quality."""
    high_quality_share: float
    """The share of all N samples; the mixture itself reaches `high_quality_ceiling()`."""
    reverse_kl: float
    """KL(samples of high quality over the modes || uniform) in nats, 0 to log M; log M without such
    samples."""
    reverse_kl_error: float
    """Its standard error, to second order: sqrt(Var[log p] / N + (M - 1) / (2 N^2)) over those samples.

    The variance is that of the observed shares less (M - 1) / N, by which it is too large at even ones.
    """
    deviation_ratio: float
    """The mean over modes of the standard deviation of their high-quality samples over the true one, about
    the mode's own mean and pooled over coordinates. The mixture reaches `truncated_deviation_ratio()`."""
    least_deviation_ratio: float
    """The smallest over modes."""
    largest_deviation_ratio: float
    """The largest over modes."""


def high_quality_ceiling() -> float:
    """Return the share of the mixture's own samples that are of high quality: 1 - exp(-9 / 2) = 98.89 %.

    The squared distance from the centre, in variances, is chi-squared with two degrees of freedom. Overlap of
    modes, which would raise the share, is neglected.
    """
    return 1 - math.exp(-(HIGH_QUALITY_DEVIATIONS**2) / 2)


def reverse_kl_floor(modes: int, samples: int) -> float:
    """Return the expected reverse KL of equally weighted modes by chance: (M - 1) / (2 N) nats.

    2 N KL is asymptotically chi-squared with M - 1 degrees of freedom (Wilks 1938), so the standard deviation
    of one measurement is sqrt(2 (M - 1)) / (2 N). `samples` counts those of high quality.
    """
    return (modes - 1) / (2 * samples)


def truncated_deviation_ratio() -> float:
    """Return the deviation ratio of a perfect sampler, 0.9744: below 1, as the tails do not count.

    Half the squared distance in variances, t, is Exp(1), and a coordinate's variance is E[t]. Given t <= u it
    is 1 - u exp(-u) / (1 - exp(-u)), with u = 9 / 2.
    """
    u = HIGH_QUALITY_DEVIATIONS**2 / 2
    return math.sqrt(1 - u * math.exp(-u) / (1 - math.exp(-u)))


def measure_modes(samples: FloatArray, centres: FloatArray, deviation: float) -> ModeReport:
    """Measure samples (N, 2) against modes with centres (M, 2) and one standard deviation.

    Raises a ValueError if there are no samples or modes, or arrays are not of these shapes.
    """
    if samples.ndim != 2 or centres.ndim != 2 or samples.shape[1] != 2 or centres.shape[1] != 2:
        raise ValueError(f"samples {samples.shape} and centres {centres.shape}; wanted (N, 2) and (M, 2)")
    if not len(samples) or not len(centres) or deviation <= 0:
        raise ValueError(
            f"{len(samples)} samples, {len(centres)} modes of deviation {deviation:g}; wanted some of each"
        )
    points = samples.astype(np.float64)
    nearest, distances = pairwise_distances_argmin_min(points, centres.astype(np.float64))
    high_quality = distances <= HIGH_QUALITY_DEVIATIONS * deviation
    counts = np.bincount(nearest[high_quality], minlength=len(centres))
    ratios = [
        math.sqrt(points[high_quality & (nearest == mode)].var(axis=0, ddof=1).mean()) / deviation
        for mode in np.flatnonzero(counts >= 2)
    ]
    reverse_kl, reverse_kl_error = _kl_from_uniform(counts)
    return ModeReport(
        samples=len(samples),
        modes=len(centres),
        modes_captured=int((counts > 0).sum()),
        high_quality_share=float(high_quality.mean()),
        reverse_kl=reverse_kl,
        reverse_kl_error=reverse_kl_error,
        deviation_ratio=math.fsum(ratios) / len(ratios) if ratios else math.nan,
        least_deviation_ratio=min(ratios, default=math.nan),
        largest_deviation_ratio=max(ratios, default=math.nan),
    )


def _kl_from_uniform(counts: npt.NDArray[np.intp]) -> tuple[float, float]:
    """Return KL(counts || uniform) in nats, and its standard error."""
    total, modes = int(counts.sum()), len(counts)
    if not total:
        return math.log(modes), 0.0
    shares = counts[counts > 0] / total
    logs = np.log(shares)
    mean = float((shares * logs).sum())
    chance = (modes - 1) / total**2
    observed = float((shares * (logs - mean) ** 2).sum()) / total
    return max(0.0, math.log(modes) + mean), math.sqrt(max(observed - chance, 0.0) + chance / 2)
