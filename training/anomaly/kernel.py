"""The statistic `kernel_density`: how far an item lies from stored training rows of a table, as a density.

It does not use the networks, and finds items that they reconstruct well although no training row is near.
Shapes: B rows, F features, M stored rows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from service.format.columns import column_places
from training.data import Dataset, Items, Scaling
from training.data.dataset import Rows
from training.data.stored import chosen_rows
from training.models.likelihoods import constant, item_sum
from training.models.likelihoods.table import FURTHEST
from training.models.networks import filled
from training.models.priors import log_mean_exp

MOST_ROWS = 4096
"""The most training rows that are stored."""
_MOST_VALUES = 2**20
"""The most values that are stored: 4 MiB in the graph, which a row's score has to pass once."""
_JUDGED_ROWS = 400
"""The most stored rows on which bandwidths are judged."""
_BANDWIDTHS = np.geomspace(0.03, 1.5, 20)
"""The bandwidths to choose from, in standard deviations of a column, times the root of their number."""


@dataclass(frozen=True)
class KernelDensity:
    """A mean of M product kernels, one around each stored row; a density of the raw row.

    The kernel of a number is Gaussian. That of a category gives the stored row's category the largest
    probability and all others an equal one. A column that did not vary has the density that the likelihood
    gives it. A missing value is left out, which integrates it out, as kernels are products. Sources: Parzen
    1962, "On estimation of a probability density function and mode", section 2; Aitchison & Aitken 1976,
    "Multivariate binary discrimination by the kernel method", equation 2, for categories.
    """

    rows: Tensor
    """(M, F), standardised; 0 at constants."""
    bandwidth: float
    """The standard deviation of the kernels, in those of the columns."""
    scaling: Scaling
    log_volume: Tensor
    """(F,) nats: the logarithm of what divides a feature's kernel, so that it is a density of raw values."""

    def __call__(self, items: Tensor) -> Tensor:
        """Return minus the log density of items (B, F), (B,) nats."""
        shift, scale = torch.from_numpy(self.scaling.shift), torch.from_numpy(self.scaling.scale)
        present = torch.ones(1, items.shape[1], dtype=items.dtype)
        if self.scaling.takes_missing:
            present = 1 - torch.isnan(items).to(items.dtype)
            items = filled(items, shift)
        gaps = ((items - shift) / scale).clamp(-FURTHEST, FURTHEST)
        surprise = item_sum(present * self.log_volume)
        if self.scaling.constants:
            varies = torch.ones(len(shift)).index_fill(0, torch.tensor(self.scaling.constants), 0)
            surprise = surprise + item_sum(constant.surprise((1 - varies) * gaps))
            gaps = varies * gaps
        exponents = squared_distances(gaps, present, self.rows) * (-0.5 / self.bandwidth**2)
        return surprise - log_mean_exp(exponents)


def squared_distances(gaps: Tensor, present: Tensor, rows: Tensor) -> Tensor:
    """Return squared distances of standardised items (B, F) from rows (M, F), (B, M), over what is present.

    `present`, (B, F) or (1, F), is 0 at values that are missing and 0 in `gaps`, else 1. Multiplied out they
    are products of matrices, in double, because nearly equal numbers cancel.
    """
    M, B = rows.shape[0], gaps.shape[0]
    # converted in one piece with the items, because a graph must not hold constants in double
    doubles = torch.cat([rows, rows.new_ones(1, rows.shape[1]), gaps, present]).double()
    stored, ones, others = doubles[:M], doubles[M : M + 1], doubles[M + 1 :]
    items, there = others[:B], others[B:]
    cross = items @ stored.T
    squares = (items * items) @ ones.T - (cross + cross) + there @ (stored * stored).T
    return squares.to(gaps.dtype).clamp(min=0)


def fit_kernel_density(dataset: Dataset, seed: int) -> KernelDensity:
    """Store training rows of a table and choose a bandwidth; missing values are stored as their mean."""
    scaling = dataset.scaling
    assert scaling is not None
    random, train = np.random.default_rng(seed), dataset.items["train"]
    most = max(2, min(MOST_ROWS, _MOST_VALUES // train.shape[1]))
    chosen = random.permutation(len(train))[:most]
    rows = (chosen_rows(train, chosen) - scaling.shift) / scaling.scale
    missing = np.isnan(rows)
    if missing.any():
        counts = np.maximum((~missing).sum(0), 1)
        rows = np.where(missing, np.where(missing, 0, rows).sum(0) / counts, rows)
    rows[:, list(scaling.constants)] = 0
    stored = torch.from_numpy(rows.astype(np.float32))
    judged = random.permutation(len(rows))[:_JUDGED_ROWS]
    bandwidth = choose_bandwidth(stored, judged, dataset)
    return KernelDensity(stored, bandwidth, scaling, torch.from_numpy(_log_volume(dataset, bandwidth)))


def choose_bandwidth(rows: Tensor, judged: Rows, dataset: Dataset) -> float:
    """Choose the bandwidth by the leave-one-out likelihood of the stored rows (M, F) numbered `judged`.

    It is the largest whose mean log-likelihood is within one standard error of the best: fewer rows are
    smoothed more. Sources: Duin 1976, "On the choice of smoothing parameters for Parzen estimators", IEEE
    Transactions on Computers C-25, equation 7; Breiman et al. 1984, "Classification and regression trees",
    section 3.4.3, for the rule of one standard error.
    """
    scaling = dataset.scaling
    assert scaling is not None
    columns = [column for column, _ in column_places(dataset.columns)]
    varying = (len(columns) or rows.shape[1]) - len(scaling.constants)
    one = rows[judged]
    squares = squared_distances(one, torch.ones(1, rows.shape[1]), rows)
    squares[torch.arange(len(judged)), torch.from_numpy(judged)] = math.inf  # itself
    candidates = _BANDWIDTHS * math.sqrt(max(varying, 1))
    losses = np.stack(
        [
            -log_mean_exp(squares * (-0.5 / bandwidth**2)).double().numpy()
            + _log_volume(dataset, bandwidth).astype(np.float64).sum()
            for bandwidth in candidates
        ]
    )
    means = losses.mean(1)
    best = int(means.argmin())
    within = means[best] + losses[best].std() / math.sqrt(len(judged))
    return float(candidates[np.flatnonzero(means <= within)[-1]])


def _log_volume(dataset: Dataset, bandwidth: float) -> Items:
    scaling = dataset.scaling
    assert scaling is not None
    volume = np.log(scaling.scale.astype(np.float64)) + math.log(bandwidth) + 0.5 * math.log(2 * math.pi)
    for column, place in column_places(dataset.columns):
        if column.categories:
            volume[place] = 0
            others = place.stop - place.start - 1
            volume[place.start] = math.log1p(others * math.exp(-1 / bandwidth**2))
    constants = list(scaling.constants)
    volume[constants] = np.log(scaling.scale[constants].astype(np.float64)) - constant.LOG_PEAK
    result: Items = volume.astype(np.float32)
    return result
