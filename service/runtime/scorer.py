"""Scores of one version: bounds on log p(x) or distances, and their calibrated p-values.

Shapes: B rows, K draws, S noise-free statistics; items as the manifest says.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Final

import numpy as np
from numpy.typing import NDArray

from service.errors import LimitExceeded, Unfit
from service.format.manifest import Manifest
from service.format.specs import ScoreDefaults
from service.format.statistics import Statistic
from service.numerics import noise
from service.numerics.calibration import (
    Bounds,
    Calibration,
    ColumnCalibration,
    Correction,
    bounds_from_terms,
    column_surprises,
    false_discovery_level,
    least_level,
    surprise,
)
from service.numerics.noise import Arrays, Doubles, Floats
from service.observe.timing import Timing
from service.runtime.direct import Computation

BOUNDS_STAGE: Final = "bounds"
"""The stage from items and noise to bounds, beside that of the graph `score`, which gives their terms."""


@dataclass(frozen=True, slots=True)
class Scores:
    """The scores of B rows; the last three are None without a calibration."""

    columns: Mapping[str, Doubles | None]
    """The measured values by name, each (B,): bounds and their parts in nats per item, or statistics."""
    surprise: Doubles
    p_value: Doubles | None
    anomaly: NDArray[np.bool_] | None
    threshold: float | None
    """The surprise above which items were flagged; None also if a correction flags none."""


class Scorer:
    """Scores items through the graphs `score` and `statistics` of one version."""

    def __init__(
        self,
        manifest: Manifest,
        calibrations: Mapping[Statistic, Calibration],
        columns: ColumnCalibration | None,
        batchers: Mapping[str, Computation],
        max_batch_cost: int,
    ) -> None:
        self._manifest = manifest
        self._calibrations = calibrations
        self._columns = columns
        self._batchers = batchers
        self._max_batch_cost = max_batch_cost
        # not a bound method: that would be a reference cycle, and an unloaded version would stay in memory
        self._eps = lru_cache(maxsize=8)(partial(noise.scoring_noise, latent_size=manifest.latent_size))

    def calibration_quantiles(self) -> dict[Statistic, Doubles]:
        """Return the percentiles (101,) of the calibration items' surprises, for each statistic."""
        return {name: calibration.quantiles() for name, calibration in self._calibrations.items()}

    async def score(
        self,
        inputs: Floats,
        how: ScoreDefaults,
        timing: Timing,
        correction: Correction = "none",
        classes: Arrays = (),
    ) -> Scores:
        """Score each item by one of the manifest's `offered_statistics`; draws are the same for every row.

        `classes` are those of the rows, (B, C) one-hot, if the graphs take any.

        Raises:
            LimitExceeded: alpha is below the smallest p-value of the calibration.
            Unfit: a correction of p-values is asked for, but the score has no p-values.
        """
        calibration = self.check(how, correction)
        columns, surprises = await self._scored((inputs, *classes), how, timing)
        if calibration is None:
            return Scores(columns, surprises, None, None, None)
        p_values, level = calibration.p_values(surprises), how.alpha
        if correction == "benjamini-hochberg":
            level = false_discovery_level(p_values, how.alpha)
        threshold = calibration.threshold(level) if level else math.inf
        return Scores(columns, surprises, p_values, surprises > threshold, threshold if level else None)

    async def column_p_values(self, inputs: Floats, timing: Timing, classes: Arrays = ()) -> Doubles:
        """Return the p-value of each of the C columns of the rows, (B, C), NaN where a value is missing.

        Raises:
            Unfit: the version has no calibration of single columns; says what to do.
        """
        calibration = self.require_columns()
        (found,) = await self._batchers["columns"].submit((inputs, *classes), timing)
        return calibration.p_values(column_surprises(found, inputs, self._manifest.columns))

    def require_columns(self) -> ColumnCalibration:
        """Return the calibration of single columns; raise what `column_p_values` raises, before any work."""
        if self._columns is not None:
            return self._columns
        name = f"{self._manifest.name} {self._manifest.version}"
        way_out = "publish its run again with `pushforward train export`, or leave `columns` out"
        if self._manifest.family == "gan" or not self._manifest.columns:
            way_out = "columns are those of a table that a VAE has learned; leave `columns` out"
        raise Unfit(f"{name} has no graph `columns`, which tells how odd each column is: {way_out}")

    def check(self, how: ScoreDefaults, correction: Correction) -> Calibration | None:
        """Return the calibration of such a score, or None; raise what `score` raises, before any work."""
        spec, calibration = self._manifest.calibration, None
        done = spec.statistics.get(how.statistic) if spec is not None else None
        if done is not None and done.draws in (None, how.draws) and done.seed in (None, how.seed):
            calibration = self._calibrations[how.statistic]
        if calibration is not None and how.alpha < calibration.smallest_alpha:
            least = least_level(calibration.items)
            raise LimitExceeded(
                f"alpha is {how.alpha:.9g}; the smallest this model is calibrated for is {least}"
            )
        if calibration is None and correction != "none":
            raise Unfit(
                f"{correction} corrects p-values, which {how.statistic} with these draws and this seed has "
                "none of; leave `statistic`, `draws` and `seed` out, or `correction`"
            )
        return calibration

    async def _scored(
        self, rows: Arrays, how: ScoreDefaults, timing: Timing
    ) -> tuple[dict[str, Doubles | None], Doubles]:
        """Return the measured values by name, bounds only if there are draws, and the surprises (B,).

        Rows are items and, if the graphs take any, their classes.
        """
        columns: dict[str, Doubles | None] = {}
        if how.draws is not None:
            assert how.seed is not None, "draws have a seed"
            bounds = await self._bounds(rows, how.draws, how.seed, timing)
            columns |= self._bound_columns(bounds)
            if how.statistic == "elbo" or how.statistic == "importance_bound":
                return columns, surprise(bounds, how.statistic)
        (matrix,) = await self._batchers["statistics"].submit(rows, timing)
        statistics = dict(zip(self._manifest.statistics, matrix.astype(np.float64).T, strict=True))
        return columns | statistics, statistics[how.statistic]

    async def _bounds(self, rows: Arrays, draws: int, seed: int, timing: Timing) -> Bounds:
        """Compute bounds in batches of rows, or of draws if one row has more draws than a batch."""
        eps, (inputs, *classes) = self._eps(seed, draws), rows
        if draws > self._max_batch_cost:
            terms = await self._terms(rows, eps, timing)
            return bounds_from_terms(*terms, analytic_kl=self._manifest.analytic_kl)
        shared = np.broadcast_to(eps, (len(inputs), *eps.shape)) if len(inputs) > 1 else eps[None]
        batcher = self._batchers[BOUNDS_STAGE]
        return Bounds(*await batcher.submit((inputs, shared, *classes), timing, cost_per_row=draws))

    async def _terms(self, rows: Arrays, eps: Floats, timing: Timing) -> Arrays:
        """Return the terms of the graph `score`: three of (B, K), and the KL (B,) averaged over all draws.

        Pieces of draws have a fixed size, so an item's score does not depend on its batch-mates; the pieces
        of one request run one after the other, to leave room for others.
        """
        draws, pieces, (inputs, *classes) = len(eps), [], rows
        for first in range(0, draws, self._max_batch_cost):
            piece = eps[first : first + self._max_batch_cost]
            shared = np.broadcast_to(piece, (len(inputs), *piece.shape))
            given = (inputs, shared, *classes)
            pieces.append(await self._batchers["score"].submit(given, timing, cost_per_row=len(piece)))
        *by_draw, kls = zip(*pieces, strict=True)
        kl = np.average(kls, axis=0, weights=[terms[0].shape[1] for terms in pieces])
        return *[np.concatenate(parts, axis=1) for parts in by_draw], kl

    def _bound_columns(self, bounds: Bounds) -> dict[str, Doubles | None]:
        has_error = not np.isnan(bounds.standard_error).any()
        bit = math.log(2.0) * math.prod(self._manifest.item_shape)  # per dimension, in nats per item
        return {
            **bounds._asdict(),
            "standard_error": bounds.standard_error if has_error else None,
            "bits_per_dimension": -bounds.elbo / bit if self._manifest.discrete else None,
        }
