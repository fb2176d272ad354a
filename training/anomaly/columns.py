"""The surprise of each column of a table's row by itself, from two passes of the row through a VAE.

An odd value moves the encoding of its row, and with it the reconstructions of all other columns, so that one
odd value makes many columns surprising. Therefore the networks see every value moved into the range of the
training rows; and the most surprising column, if it is odd, is hidden before the others are judged.
Shapes: B rows, F features, C columns, N held-out rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from service.format.columns import column_places
from training.data import Dataset
from training.data.stored import in_blocks
from training.models.likelihoods import GaussianTable
from training.models.vae import Vae

_HIGH = 0.95
"""The quantile whose distance from the median is the spread of a column's surprise."""
_LEAST_SPREAD = 1.0
"""The least spread, in nats: a column that hardly varies must not seem odd for a trifle."""
_ODD = 1.5
"""The least surprise of a column that is hidden, in spreads. A row of a sparse table often has the median of
all columns, or the quantile of several: which is the most surprising would be a matter of rounding."""


@dataclass(frozen=True)
class ColumnSurprises:
    """Judges the columns of rows, each by minus its log-likelihood at the posterior mean."""

    low: Tensor
    """(F,), the smallest training value of each feature."""
    high: Tensor
    """(F,), the largest."""
    first: Tensor
    """(C,), the first feature of each column."""
    members: Tensor
    """(F, C), 1 where a feature belongs to a column."""
    hidden: Tensor
    """(F,), the values that hide a column from the encoder: NaN if it knows missing values, else the mean."""
    centre: Tensor
    """(C,) nats, the median surprise of held-out rows."""
    spread: Tensor
    """(C,) nats, the distance of their 95 % quantile from it."""

    def __call__(self, vae: Vae, items: Tensor) -> Tensor:
        """Return the surprise of the columns of items (B, F) in nats, (B, C).

        That of a missing value is the median.
        """
        inside = torch.where(items > self.high, self.high, torch.where(items < self.low, self.low, items))
        first = self._surprise(vae, inside, items)
        oddness = (first - self.centre) / self.spread
        top = (oddness == oddness.amax(1, keepdim=True).clamp(min=_ODD)).to(items.dtype)
        without = torch.where(top @ self.members.T > 0.5, self.hidden, inside)
        return torch.where(top > 0.5, first, self._surprise(vae, without, items))

    def _surprise(self, vae: Vae, seen: Tensor, items: Tensor) -> Tensor:
        """Return the surprise (B, C) of items (B, F) at the posterior mean of what the encoder sees."""
        mean, _ = vae.encode(seen)
        surprise = -vae.likelihood.value_log_prob(vae.decode(mean), items) @ self.members
        return torch.where(torch.isnan(items.index_select(1, self.first)), self.centre, surprise)


def fit_columns(vae: Vae, dataset: Dataset, held_out: Tensor) -> ColumnSurprises | None:
    """Fit the judge of a table's columns: ranges on its training rows, all else on held-out rows (N, F).

    Returns None if the model is no VAE of a table.
    """
    if not isinstance(vae.likelihood, GaussianTable) or not dataset.columns or dataset.scaling is None:
        return None
    train, places = dataset.items["train"], [place for _, place in column_places(dataset.columns)]
    members = torch.zeros(train.shape[1], len(places))
    for index, place in enumerate(places):
        members[place, index] = 1
    shift = torch.from_numpy(dataset.scaling.shift)
    ranges = [(np.fmin.reduce(rows), np.fmax.reduce(rows)) for rows in in_blocks(train)]  # which skip NaN
    judge = ColumnSurprises(
        low=torch.from_numpy(np.fmin.reduce([low for low, _ in ranges])),
        high=torch.from_numpy(np.fmax.reduce([high for _, high in ranges])),
        first=torch.tensor([place.start for place in places]),
        members=members,
        hidden=torch.full_like(shift, torch.nan) if dataset.scaling.takes_missing else shift,
        centre=torch.zeros(len(places)),
        spread=torch.ones(len(places)),
    )
    with torch.no_grad():
        surprise = judge._surprise(vae, held_out.clamp(judge.low, judge.high), held_out)
    there = torch.where(torch.isnan(held_out[:, judge.first]), torch.nan, surprise)
    centre = torch.nan_to_num(there.nanmedian(0).values)
    spread = torch.nan_to_num(there.nanquantile(_HIGH, 0)) - centre
    return ColumnSurprises(
        judge.low, judge.high, judge.first, members, judge.hidden, centre, spread.clamp(min=_LEAST_SPREAD)
    )
