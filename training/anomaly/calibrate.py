"""Calibrates a version's anomaly scores: runs its own graphs on the calibration split, as the service does.

Shapes: N items, K draws, D latent dimensions; items (N, *item).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, get_args

import numpy as np
import numpy.typing as npt
from scipy.stats import betabinom

from service.format.columns import Column
from service.format.manifest import Support
from service.format.specs import CalibratedStatistic, CalibrationSpec, GraphName, Metric, ScoreDefaults
from service.format.statistics import Bound, Statistic
from service.format.versions import sha256_of
from service.numerics.calibration import (
    Calibration,
    bounds_from_terms,
    column_surprises,
    least_level,
    surprise,
)
from service.numerics.classes import one_hot
from service.numerics.noise import Doubles, Floats, scoring_noise
from training.anomaly.outliers import ordinary_items, simple_outliers
from training.anomaly.running import RunGraph, batches_of, on_all_cores
from training.data import Dataset, Labels
from training.metrics.names import MetricName
from training.options import CalibrationOptions
from training.recipe import RecipeError

_BOUNDS: Final[tuple[Bound, ...]] = get_args(Bound)
LEVELS = (0.01, 0.05, 0.1)
_BAND = 0.99


class ScoreError(RuntimeError):
    """A model gives items scores that are NaN or infinite, among which no others can be ranked."""


def require_finite(what: str, values: npt.NDArray[np.floating], items: Floats) -> None:
    """Raise a ScoreError unless what a model gives for items (N, *item), (N, ...), is finite."""
    strange = ~np.isfinite(values).reshape(len(items), -1).all(axis=1)
    if strange.any():
        first = items[int(np.argmax(strange))]
        raise ScoreError(
            f"{what} is NaN or infinite for {int(strange.sum())} of {len(items)} items, the first of which "
            f"has values from {np.nanmin(first):g} to {np.nanmax(first):g}; leave these items out, or mend "
            "the model, whose results are refused where they are not finite"
        )


@dataclass(frozen=True)
class StatisticScorer:
    """A version's anomaly statistics, as the service computes them."""

    surprises: Callable[[Floats], dict[Statistic, Doubles]]
    """Maps items (N, *item) to surprises (N,) by each statistic."""
    default: Statistic
    """The default statistic of a version whose recipe names none."""
    options: CalibrationOptions
    """Draws and seed of the noise that bounds depend on."""
    columns: Callable[[Floats], Doubles] | None = None
    """Maps rows (N, F) of a table to the surprises of their C columns, (N, C), NaN for missing values."""
    given: Callable[[Labels], StatisticScorer] | None = None
    """Maps labels (N,) to the scorer of N items of these classes; None for a version without a condition."""

    def of(self, labels: Labels) -> StatisticScorer:
        """Return the scorer of items with those labels (N,): itself without a class condition."""
        return self if self.given is None else self.given(labels)

    def noise(self, statistic: Statistic) -> dict[str, int]:
        """Return the draws and the seed that surprises by a statistic depend on, if any."""
        return {"draws": self.options.draws, "seed": self.options.seed} if statistic in _BOUNDS else {}


def bound_scorer(
    run: RunGraph, latent: int, analytic_kl: bool, options: CalibrationOptions, labels: Floats | None = None
) -> StatisticScorer:
    """Score by the bounds of a VAE with D = `latent` from its graph `score`; all items share their draws.

    `analytic_kl` says whether the graph's KL is exact; `labels` (N, C), one-hot, are the classes of the items
    if the graph takes them.
    """
    eps = scoring_noise(options.seed, options.draws, latent)

    def surprises(items: Floats) -> dict[Statistic, Doubles]:
        parts = on_all_cores(
            lambda batch: run([batch[0], np.tile(eps, (len(batch[0]), 1, 1)), *batch[1:]]),
            batches_of(items, labels, options.draws),
        )
        terms = (np.concatenate(term) for term in zip(*parts, strict=True))
        bounds = bounds_from_terms(*terms, analytic_kl=analytic_kl)
        return {statistic: surprise(bounds, statistic) for statistic in _BOUNDS}

    return StatisticScorer(surprises, "elbo", options)


def column_scorer(
    run: RunGraph, names: Sequence[Statistic], options: CalibrationOptions, labels: Floats | None = None
) -> StatisticScorer:
    """Score by the noise-free columns of the graph `statistics`, which have those names.

    `labels` (N, C), one-hot, are the classes of the items if the graph takes them.
    """

    def surprises(items: Floats) -> dict[Statistic, Doubles]:
        columns = np.concatenate(on_all_cores(lambda batch: run(batch)[0], batches_of(items, labels)))
        return dict(zip(names, columns.T.astype(np.float64), strict=True))

    return StatisticScorer(surprises, names[-1], options)


def single_columns(
    run: RunGraph, columns: Sequence[Column], labels: Floats | None = None
) -> Callable[[Floats], Doubles]:
    """Judge the columns of a table one by one, by the graph `columns`; `labels` as in `column_scorer`."""

    def surprises(items: Floats) -> Doubles:
        found = np.concatenate(on_all_cores(lambda batch: run(batch)[0], batches_of(items, labels)))
        return column_surprises(found, items, columns)

    return surprises


def version_scorer(
    runs: Mapping[GraphName, RunGraph],
    options: CalibrationOptions,
    latent: int,
    analytic_kl: bool,
    statistics: Sequence[Statistic],
    columns: Sequence[Column] = (),
    classes: int = 0,
) -> StatisticScorer:
    """Score by the graphs of a version that do: `score`, `statistics` and, of a table, `columns`.

    `statistics` are the names of the noise-free ones; with C = `classes` the graphs take labels. The default
    is the ELBO, or without bounds the last of the statistics. Scores that are not finite raise a ScoreError.
    """

    def of(labels: Floats | None) -> StatisticScorer:
        scorers = []
        if "score" in runs:
            scorers.append(bound_scorer(runs["score"], latent, analytic_kl, options, labels))
        if "statistics" in runs:
            scorers.append(column_scorer(runs["statistics"], statistics, options, labels))

        def surprises(items: Floats) -> dict[Statistic, Doubles]:
            found = {k: v for each in scorers for k, v in each.surprises(items).items()}
            for statistic, values in found.items():
                require_finite(f"the score {statistic}", values, items)
            return found

        scorer = replace(scorers[0], surprises=surprises)
        if "columns" in runs:
            scorer = replace(scorer, columns=single_columns(runs["columns"], columns, labels))
        return scorer

    if not classes:
        return of(None)
    return replace(of(None), given=lambda labels: of(one_hot(labels, len(labels), classes)))


def require_resolvable(options: CalibrationOptions, rows: int, way_out: str) -> None:
    """Raise a RecipeError if `alpha` is below 1 / (rows + 1): calibration on `rows` rows would flag nothing.

    `way_out` says how to get more rows.
    """
    if options.alpha < 1 / (rows + 1):
        raise RecipeError(
            f"calibration.alpha is {options.alpha:.9g}, but {rows} calibration items resolve no level below "
            f"{least_level(rows)}; raise alpha, or calibrate on at least {math.ceil(1 / options.alpha) - 1} "
            f"items ({way_out})"
        )


def calibrate(
    scorer: StatisticScorer,
    support: Support,
    options: CalibrationOptions,
    dataset: Dataset,
    ordinary: Mapping[Statistic, Doubles],
    folder: Path,
) -> tuple[CalibrationSpec, ScoreDefaults, dict[str, Metric]]:
    """Calibrate a version's scores, and measure how often test items, noise and outliers are flagged.

    `ordinary` are the surprises of the test split, by statistic. Writes the sorted surprises of the
    calibration split, used here only, to `calibration.npz` in `folder`. Raises a RecipeError if the model
    does not have the recipe's statistic.
    """
    calibrated_on = len(dataset.items["calibration"])
    of_calibration = scorer.of(dataset.labels["calibration"])
    spec, defaults, calibration = write_calibration(
        of_calibration, options, dataset.items["calibration"], folder
    )
    statistic = defaults.statistic
    drawn = f" with {defaults.draws} draws" if defaults.draws else ""
    rates = {}
    for kind, items, what, labels in (ordinary_items(dataset), *simple_outliers(dataset, support)):
        surprises = ordinary if kind == "test" else scorer.of(labels).surprises(items)
        p_values = calibration.p_values(surprises[statistic])
        note = f"of {len(items)} {what}, flagged at alpha {options.alpha:g} by {statistic}{drawn}"
        rates[str(MetricName("flagged", kind))] = _share_metric(p_values <= options.alpha, note)
        if kind == "test":
            for level in (level for level in LEVELS if level * (calibrated_on + 1) >= 1):
                low, high = flagged_band(len(items), level, calibrated_on)
                note = f"of {len(items)} test items; {low:.3g} to {high:.3g} in 99 % of cases if exchangeable"
                rates[str(MetricName("flagged_at", level=level))] = _share_metric(p_values <= level, note)
    return spec, defaults, rates


def flagged_band(items: int, level: float, calibrated_on: int) -> tuple[float, float]:
    """Return the range of the share of normal items that are flagged, in 99 % of cases.

    The count is beta-binomial with parameters l and n + 1 - l, l = floor(level (n + 1)), if they and the n
    calibration items are exchangeable and no two tie. Source: Vovk 2012, "Conditional validity of inductive
    conformal predictors", for the beta law of the rate.
    """
    rank = math.floor(level * (calibrated_on + 1))
    low, high = betabinom.ppf([(1 - _BAND) / 2, (1 + _BAND) / 2], items, rank, calibrated_on + 1 - rank)
    return float(low) / items, float(high) / items


def write_calibration(
    scorer: StatisticScorer, options: CalibrationOptions, items: Floats, folder: Path
) -> tuple[CalibrationSpec, ScoreDefaults, Calibration]:
    """Write the sorted surprises of items (N, *item) to `calibration.npz` in `folder`.

    Returns the manifest's entry, the default way to score, and the calibration of the default statistic.
    Raises a RecipeError if the model does not have the requested statistic.
    """
    surprises = {name: np.sort(v) for name, v in scorer.surprises(items).items()}
    statistic = options.statistic or scorer.default
    if statistic == "auto":
        raise RecipeError(
            "calibration.statistic is 'auto', which chooses when a trained model is exported; to calibrate a "
            f"version anew, name one of {', '.join(surprises)}"
        )
    if statistic not in surprises:
        raise RecipeError(
            f"calibration.statistic is {statistic!r}, which this model does not have; "
            f"it has {', '.join(surprises)}"
        )
    path = folder / "calibration.npz"
    single = () if scorer.columns is None else scorer.columns(items).T
    columns = [np.sort(values[~np.isnan(values)]) for values in single]
    by_column = {"columns": np.concatenate(columns)} if columns else {}
    np.savez(path, allow_pickle=False, **surprises, **by_column)
    calibrated = {name: CalibratedStatistic(n=len(v), **scorer.noise(name)) for name, v in surprises.items()}
    spec = CalibrationSpec(
        file=path.name, sha256=sha256_of(path), statistics=calibrated, columns=tuple(map(len, columns))
    )
    defaults = ScoreDefaults(statistic=statistic, alpha=options.alpha, **scorer.noise(statistic))
    return spec, defaults, Calibration(surprises[statistic])


def _share_metric(counted: npt.NDArray[np.bool_], note: str) -> Metric:
    """Return a share of rows with its standard error, which is positive even if none or all are counted.

    Source: Agresti & Coull 1998, "Approximate is better than exact", The American Statistician 52(2).
    """
    share, rows = float(counted.mean()), len(counted)
    centred = (share * rows + 2) / (rows + 4)
    error = math.sqrt(centred * (1 - centred) / (rows + 4))
    return Metric(value=share, standard_error=error, unit="share", note=note)
